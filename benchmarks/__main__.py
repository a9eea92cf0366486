"""holdfast beside what others would take: `make bench`, or `python -m benchmarks --help`.

Every contestant moves the same directories to and from the same S3 server on loopback, in turn, round after round;
every transfer is a whole process, from its start to its end. What arrived is verified outside of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import table
from benchmarks.bars import bars
from benchmarks.comparison import Comparison, Ring
from benchmarks.contestants import CONTESTANTS
from benchmarks.server import serve
from benchmarks.workloads import SMALL, WORKLOADS

ALL_OVER_TLS = ("large", "many")


def main() -> None:
    options = _options()
    workloads = [one for one in WORKLOADS if not options.workloads or one.name in options.workloads]
    contestants = [one for one in CONTESTANTS if not options.contestants or one.name in options.contestants]
    small = options.size == "small"
    rounds = options.rounds or (1 if small else 3)
    machine = _machine()
    about = {"machine": machine, "size": options.size, "rounds": rounds}
    compared: list[Comparison] = []
    for tls in (False, True):
        if tls and options.tls == "no":
            continue
        for workload in workloads:
            if tls and options.tls == "some" and workload.name not in ALL_OVER_TLS:
                continue
            # A server for each, so that none finds another's memory.
            with (
                serve(options.server_folder, tls=tls) as server,
                tempfile.TemporaryDirectory(prefix="bench-", dir=options.work) as work,
            ):
                ring = Ring(server, Path(work), options.binaries, _show)
                compared.append(ring.compare(workload, contestants, rounds, SMALL if small else 1))
            print(table.as_text(compared[-1:]), flush=True)
            # Now, not at the end: the whole takes an hour, and an interrupted run has what was measured.
            _write(options.json, json.dumps({**about, "compared": _plain(compared)}, indent=1) + "\n")
            if options.markdown:
                page = table.as_markdown(compared, {**machine, "size": options.size, "rounds": rounds})
                _write(options.markdown, page)
    print(f"\nwritten: {options.json}")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=("small", "full"), default="full", help="small: a 64th, one round")
    parser.add_argument("--rounds", type=int, help="how often each (3; 1 when small)")
    parser.add_argument(
        "--tls", choices=("no", "some", "all"), default="some", help=f"some: {', '.join(ALL_OVER_TLS)} only"
    )
    parser.add_argument("--workloads", nargs="*", choices=[one.name for one in WORKLOADS], metavar="NAME")
    parser.add_argument("--contestants", nargs="*", choices=[one.name for one in CONTESTANTS], metavar="NAME")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/latest.json"), help="where results go")
    parser.add_argument("--markdown", type=Path, help="where the tables go as a page")
    parser.add_argument("--work", type=Path, help="the disk that is read and written (that of temporary files)")
    parser.add_argument("--server-folder", type=Path, default=Path("/dev/shm"), help="where the server keeps objects")
    binaries = Path(sys.executable).parent
    parser.add_argument("--binaries", type=Path, default=binaries, help="folder of the programs that are compared")
    return parser.parse_args()


def _show(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / (1 << 30)),
        "system": platform.release(),
        "python": platform.python_version(),
        "load_before": os.getloadavg(),
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "commit": _commit(),
    }


def _commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _plain(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return all that was measured, and the bars, as JSON has it."""
    return [
        {
            "workload": one.workload.name,
            "tls": one.tls,
            "files": one.files,
            "bytes": one.size,
            "contestants": {
                entry.contestant.name: {
                    "kind": entry.contestant.kind,
                    "problem": entry.problem,
                    "runs": [asdict(run) for run in entry.runs],
                }
                for entry in one.entries
            },
            "bars": {
                step: [{**asdict(bar), "reached": bar.reached} for bar in bars(one, step)]
                for step in one.workload.steps
            },
        }
        for one in comparisons
    ]


if __name__ == "__main__":
    main()
