"""Flush: seconds from the end of an interrupted script to the exit of the container, with much to store, and nothing.

    python -m benchmarks.flush --runs 5                 # 1 GiB in one file
    python -m benchmarks.flush --runs 5 --size 512 --files 2000
    python -m benchmarks.flush --runs 5 --size 125 --files 2000 --apart   # each file is a checkpoint of its own

The script writes its checkpoint on SIGTERM and ends, so that all of it is dirty. In turn, in the same run: the
bare transfer of the same bytes by the same engine, called directly, which is the measured rate. The bar: at most 1.15 x
the bare transfer + 1 s; with nothing dirty at most 0.5 s.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.lag import bare
from benchmarks.server import Server, serve

_SAVES_AT_THE_END = """
import os, pathlib, signal, sys, time
size, files = int(sys.argv[1]), int(sys.argv[2])
directory = pathlib.Path(os.environ["CHECKPOINT_LOCAL_PATH"])
within = directory / sys.argv[3]
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
print("ready", flush=True)
while not stopped:
    time.sleep(0.01)
for number in range(files if size else 0):
    within.mkdir(exist_ok=True)
    with (within / f"shard-{number}.bin").open("wb", buffering=0) as file:
        left = size // files
        while left:
            left -= file.write(os.urandom(min(left, 1 << 20)))
print(time.time(), flush=True)
"""


def flush(server: Server, prefix: str, size: int, files: int, within: str) -> tuple[float, dict[str, object], Path]:
    """Return the seconds from the script's end to the container's, the report's flush, and the checkpoint directory."""
    base = Path(tempfile.mkdtemp(prefix="bench-flush-"))
    report = base / "report.json"
    environ = {
        **os.environ, **server.environ, "CHECKPOINT_S3_URI": f"s3://bench/{prefix}", "SAGEMAKER_BASE_DIR": str(base),
        "HOLDFAST_GRACE_SECONDS": "600", "HOLDFAST_REPORT_FILE": str(report),
    }  # fmt: skip
    run = [sys.executable, "-I", "-u", "-m", "holdfast_entrypoint", "run", "--", sys.executable, "-c"]
    with subprocess.Popen(
        [*run, _SAVES_AT_THE_END, str(size), str(files), within],
        env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        ended = float(process.stdout.readline())
        code = process.wait()
        took = time.time() - ended
    if code != 143:
        raise OSError(f"the container ended with {code} instead of 143")
    return took, json.loads(report.read_text())["flush"], base / "checkpoints"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--size", type=int, default=1024, help="MiB of the checkpoint")
    parser.add_argument("--files", type=int, default=1, help="its files")
    parser.add_argument("--apart", action="store_true", help="at the top level: each is a checkpoint of its own")
    options = parser.parse_args()
    within = "." if options.apart else "step-1"
    dirty, direct, clean = [], [], []
    with serve() as server:
        server.request("PUT", "/bench")
        for number in range(options.runs):
            took, _, directory = flush(server, f"run-{number}", options.size << 20, options.files, within)
            dirty.append(took)
            server.forget("bench")
            server.request("PUT", "/bench")
            direct.append(bare(server, f"bare-{number}", directory))
            shutil.rmtree(directory.parent)
            took, _, directory = flush(server, f"clean-{number}", 0, 0, within)
            clean.append(took)
            shutil.rmtree(directory.parent)
            server.forget("bench")
            server.request("PUT", "/bench")
    bar = 1.15 * statistics.median(direct) + 1.0
    result = {
        "mib": options.size,
        "files": options.files,
        "apart": options.apart,
        "script_end_to_exit": _median(dirty),
        "bare_transfer": _median(direct),
        "bar": round(bar, 3),
        "reached": statistics.median(dirty) <= bar,
        "nothing_dirty": {"script_end_to_exit": _median(clean), "bar": 0.5, "reached": statistics.median(clean) <= 0.5},
        "all": [round(took, 3) for took in dirty],
        "all_bare": [round(took, 3) for took in direct],
        "all_nothing_dirty": [round(took, 3) for took in clean],
    }
    print(json.dumps(result, indent=1))


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 3)


if __name__ == "__main__":
    main()
