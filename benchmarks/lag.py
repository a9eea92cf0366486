"""Lag: seconds from the last close of a checkpoint's files to the record that makes it durable.

    python -m benchmarks.lag --runs 3                   # 1 x 1 GiB, and a directory of 8 x 128 MiB
    python -m benchmarks.lag --runs 3 --size 64 --aws   # smaller, and beside `aws s3 sync` in a loop of 30 s

Three ways in turn, in the same run: `holdfast run` on a script that writes the checkpoint; the bare transfer of the
same bytes by the same engine, called directly; and, with --aws, `aws s3 sync` every 30 seconds. The settle time is
how long holdfast waits by design (0.3 s after the close of a file, 5 s for a directory); it is given apart. The bar:
what is left is at most 1.15 x the bare transfer + 0.5 s. A commit is seen by asking the server every 20 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.server import Server, serve
from holdfast.attempts import claim, fence
from holdfast.restore.base import Base
from holdfast.snapshot import catalog
from holdfast.store import Store
from holdfast.store.location import Location
from holdfast.store.open import open_store
from holdfast.sync.assemble import Engine, assemble
from holdfast.workers.pool import Workers

SETTLE = {"file": 0.3, "directory": 5.0}
_MIB = 1 << 20
_WRITES = """
import os, pathlib, sys, time
kind, size, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
directory = pathlib.Path(os.environ["CHECKPOINT_LOCAL_PATH"])
time.sleep(2.0)
files = [directory / "model.bin"] if kind == "file" else [directory / "step-1" / f"shard-{n}.bin" for n in range(8)]
for path in files:
    path.parent.mkdir(exist_ok=True)
    with path.open("wb", buffering=0) as file:
        for _ in range(size // len(files) >> 20):
            file.write(os.urandom(1 << 20))
    print(time.time(), flush=True)
    if path is not files[-1]:
        time.sleep(pause)
time.sleep(1000)
"""
"""Writes a checkpoint and prints when each of its files was closed."""


def lag(server: Server, prefix: str, kind: str, size: int, pause: float) -> tuple[float, Path]:
    """Return the seconds from the last close to the record under `holdfast run`, and the directory that was stored."""
    base = Path(tempfile.mkdtemp(prefix="bench-lag-"))
    environ = {
        **os.environ, **server.environ, "CHECKPOINT_S3_URI": f"s3://bench/{prefix}", "SAGEMAKER_BASE_DIR": str(base)
    }  # fmt: skip
    closes = 1 if kind == "file" else 8
    run = [sys.executable, "-I", "-u", "-m", "holdfast_entrypoint", "run", "--", sys.executable, "-c", _WRITES]
    store = _store(server, prefix)
    with subprocess.Popen(
        [*run, kind, str(size), str(pause)], env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        closed = 0.0
        for _ in range(closes):
            closed = float(process.stdout.readline())
        while not catalog.read_catalog(store).snapshots:
            time.sleep(0.02)
        took = time.time() - closed
        process.terminate()
    return took, base / "checkpoints"


def bare(server: Server, prefix: str, directory: Path) -> float:
    """Return the seconds in which the engine, called directly, stores the same files."""
    store = _store(server, prefix)
    claimed = claim.claim(store, (), claim.Claimant("h", "0", "local"), started=datetime.now(UTC))
    found = fence.fence(store, catalog.read_catalog(store), claimed)
    with Workers() as workers:
        syncer = assemble(
            Engine(store=store, workers=workers, clock=lambda: datetime.now(UTC)), directory, claimed, Base(found=found)
        )
        scan = syncer.scan()
        begin = time.monotonic()
        syncer.sync(scan)
        return time.monotonic() - begin


def aws_loop(environ: Mapping[str, str], prefix: str, directory: Path, *, after: float) -> float:
    """Return the seconds from the last close until `aws s3 sync` in a loop of 30 s has stored the files.

    Args:
        environ: of the command.
        prefix: where to.
        directory: its files, written already.
        after: how long after a sync has begun they are closed, 0 to 30 s.
    """
    begin = time.monotonic()
    command = ["aws", "s3", "sync", "--quiet", str(directory), f"s3://bench/{prefix}"]
    subprocess.run(command, env={**os.environ, **environ}, check=True)
    return 30.0 - after + time.monotonic() - begin


def _store(server: Server, prefix: str) -> Store:
    return open_store(Location("s3", "bench", prefix), server.environ)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024, help="MiB of a checkpoint")
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between two shards of the directory")
    parser.add_argument("--aws", action="store_true", help="also `aws s3 sync` in a loop of 30 s")
    options = parser.parse_args()
    results: dict[str, dict[str, float | list[float]]] = {}
    with serve() as server:
        server.request("PUT", "/bench")
        for kind, settle in SETTLE.items():
            ours, direct, aws = [], [], []
            for number in range(options.runs):
                took, directory = lag(server, f"run-{kind}-{number}", kind, options.size * _MIB, options.pause)
                ours.append(took)
                server.forget("bench")
                server.request("PUT", "/bench")
                direct.append(bare(server, f"bare-{kind}-{number}", directory))
                if options.aws:
                    # Closed at a time that is evenly spread over the loop: 15 s after a sync began, in the mean.
                    after = 30.0 * (number + 0.5) / options.runs
                    aws.append(aws_loop(server.environ, f"aws-{kind}-{number}", directory, after=after))
                shutil.rmtree(directory.parent)
                server.forget("bench")
                server.request("PUT", "/bench")
            beyond = [took - settle for took in ours]
            bar = 1.15 * statistics.median(direct) + 0.5
            results[kind] = {
                "mib": options.size,
                "closed_to_committed": _median(ours),
                "of_it_settling": settle,
                "beyond_settling": _median(beyond),
                "bare_transfer": _median(direct),
                "bar": round(bar, 3),
                "reached": statistics.median(beyond) <= bar,
                "all": [round(took, 3) for took in ours],
                "all_bare": [round(took, 3) for took in direct],
            }
            if aws:
                results[kind]["aws_s3_sync_every_30_s"] = _median(aws)
    print(json.dumps(results, indent=1))


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 3)


if __name__ == "__main__":
    main()
