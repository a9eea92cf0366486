"""Slowdown: what storing checkpoints takes from a training beside it, which wants the whole machine.

    python -m benchmarks.slowdown --runs 7 --seconds 30
    python -m benchmarks.slowdown --threads 1           # a training that leaves a core free

A PyTorch loop on the CPU saves 200 MB every 10 s, bare and under `holdfast run`, in turn. What counts is its steps: how
many there were in the given time, so that what a save itself takes (the same on both sides) counts too. What must be
paid is the CPU of the bytes: holdfast's CPU seconds are measured as well, and where the training wants every core
they are taken from it. The bar: the mean step at most 1 % longer beyond that share.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import cpu_seconds
from benchmarks.server import Server, serve

_TRAINS = """
import os, pathlib, sys, time
import torch
threads, size, every, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
torch.set_num_threads(threads)
directory = pathlib.Path(os.environ["CHECKPOINT_LOCAL_PATH"])
directory.mkdir(parents=True, exist_ok=True)
state = {"weights": torch.randn(size // 4)}
left, right = torch.randn(768, 768), torch.randn(768, 768)
for _ in range(20):
    left @ right
print("ready", flush=True)
begin, steps, saved, saving = time.monotonic(), 0, 0, 0.0
while (now := time.monotonic()) < begin + seconds:
    for _ in range(4):
        left @ right
    steps += 1
    if now > begin + every * (saved + 0.2):
        state["weights"][:: 4096] += 1
        torch.save(state, directory / f"step-{saved % 3}.pt")
        saved += 1
        saving += time.monotonic() - now
print(steps, saved, time.monotonic() - begin, saving, flush=True)
"""


@dataclass(frozen=True, slots=True)
class Trained:
    """One training: the mean step in seconds, with and without the saves, and holdfast's CPU seconds and bytes."""

    step: float
    step_between: float
    cpu: float
    saved: int
    seconds: float


def train(server: Server | None, prefix: str, options: argparse.Namespace) -> Trained:
    """Train for a while, under holdfast where there is a server, and return what it took."""
    with tempfile.TemporaryDirectory(prefix="bench-slowdown-") as base:
        environ = {**os.environ, "CHECKPOINT_LOCAL_PATH": f"{base}/checkpoints", "SAGEMAKER_BASE_DIR": base}
        size = options.size * 1_000_000
        line = [sys.executable, "-c", _TRAINS, *map(str, (options.threads, size, options.every, options.seconds))]
        if server is not None:
            environ |= {**server.environ, "CHECKPOINT_S3_URI": f"s3://bench/{prefix}"}
            line = [sys.executable, "-I", "-u", "-m", "holdfast_entrypoint", "run", "--", *line]
        with subprocess.Popen(
            line, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            before = _supervisor_cpu(process.pid) if server is not None else 0.0
            steps, saved, seconds, saving = process.stdout.readline().split()
            cpu = _supervisor_cpu(process.pid) - before if server is not None else 0.0
    between = (float(seconds) - float(saving)) / int(steps)
    return Trained(float(seconds) / int(steps), between, cpu, int(saved) * size, float(seconds))


def _supervisor_cpu(pid: int) -> float:
    """Return the CPU seconds of all threads of one process, without its children."""
    total = cpu_seconds(pid)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return total - sum(cpu_seconds(int(child)) for child in children)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=30, help="of each training")
    parser.add_argument("--every", type=float, default=10, help="seconds between two checkpoints")
    parser.add_argument("--size", type=int, default=200, help="MB of a checkpoint")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of PyTorch")
    options = parser.parse_args()
    bare: list[Trained] = []
    beside: list[Trained] = []
    with serve() as server:
        server.request("PUT", "/bench")
        for number in range(options.runs):
            # Which side goes first changes from pair to pair, and each is held against its neighbour in time.
            for second in (number % 2 == 0, number % 2 == 1):
                if second:
                    beside.append(train(server, f"run-{number}", options))
                else:
                    bare.append(train(None, "", options))
            server.forget("bench")
            server.request("PUT", "/bench")
        server_cpu = server.counted().cpu_seconds
    cores = os.cpu_count() or 1
    result = {
        "threads": options.threads,
        "cores": cores,
        "step_ms_bare": _milliseconds(run.step for run in bare),
        "step_ms_beside": _milliseconds(run.step for run in beside),
        "longer_percent": _longer(bare, beside, lambda run: run.step),
        "between_saves_longer_percent": _longer(bare, beside, lambda run: run.step_between),
        # Of the cores that the training wants, this share went to the bytes: ours, and here also the server's.
        "holdfast_percent_of_the_machine": _percent(run.cpu / run.seconds / cores for run in beside),
        "server_percent_of_the_machine": _percent([server_cpu / sum(run.seconds for run in beside) / cores]),
        "holdfast_cpu_seconds_per_gib": round(statistics.median(run.cpu * 2**30 / run.saved for run in beside), 3),
        "all_longer_percent": [
            round(100 * (with_us.step / without.step - 1), 2) for without, with_us in zip(bare, beside, strict=True)
        ],
    }
    print(json.dumps(result, indent=1))


def _milliseconds(seconds: Iterable[float]) -> float:
    return round(1000 * statistics.median(seconds), 3)


def _percent(shares: Iterable[float]) -> float:
    return round(100 * statistics.median(shares), 2)


def _longer(bare: Sequence[Trained], beside: Sequence[Trained], of: Callable[[Trained], float]) -> float:
    """Return by how many percent longer it took beside holdfast: the median of what each pair says."""
    return _percent(of(with_us) / of(without) - 1 for without, with_us in zip(bare, beside, strict=True))


if __name__ == "__main__":
    main()
