"""What a program takes: seconds on the wall and of CPU, and memory, all its child processes included."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

INTERVAL = 0.03  # seconds between two looks at the memory


@dataclass(frozen=True, slots=True)
class Usage:
    """What one run of a program took.

    Attributes:
        wall: seconds from before its start to its end.
        cpu: seconds of CPU, user and system, of it and of every descendant that was waited for.
        peak_mib: the most memory that it and its descendants had at the same time (the sum of the resident sets).
        status: its exit code; negative: the signal that ended it.
    """

    wall: float
    cpu: float
    peak_mib: float
    status: int


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return a bare environment: no proxies, keys, authorities and settings of the user who runs the benchmark.

    Args:
        home: the home directory; an empty one, so that there are no configuration files.
        more: further variables.
    """
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "HOME": str(home), **more}


def run(command: Sequence[str], *, environ: Mapping[str, str], cwd: Path, log: Path) -> Usage:
    """Run a program to its end.

    Args:
        command: the program and its arguments.
        environ: all of its environment.
        cwd: where it runs.
        log: takes its output, appended.
    """
    with log.open("ab") as output:
        begin = time.monotonic()
        process = subprocess.Popen(
            command, env=environ, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        with Watched(process.pid) as watched:
            # Not Popen.wait: only the reaping call returns the usage.
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
    return Usage(wall, usage.ru_utime + usage.ru_stime, watched.peak_mib, process.returncode)


class Watched:
    """Follows the memory of a process and its descendants, in a thread, as long as the `with` lasts.

    Not ru_maxrss: a process that is started by another begins with the other's peak.

    Attributes:
        peak_mib: the largest sum of their resident sets so far, or the largest peak that the kernel notes for one of
            them, which misses nothing between two looks.
    """

    def __init__(self, pid: int) -> None:
        self.peak_mib = 0.0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch-memory", daemon=True)

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            found = [memory(pid) for pid in tree(self._pid)]
            self.peak_mib = max([self.peak_mib, sum(now for now, _ in found), *(most for _, most in found)])
            if self._over.wait(INTERVAL):
                return


def tree(pid: int) -> Iterator[int]:
    """Yield a process and all its descendants that are there."""
    yield pid
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from tree(int(child))
    except OSError:
        return  # it has ended


def memory(pid: int) -> tuple[float, float]:
    """Return the resident set of one process and the largest that it had, in MiB; nothing for one that has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0, 0.0
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    now, most = (int(fields[name].split()[0]) / 1024 if name in fields else 0.0 for name in ("VmRSS", "VmHWM"))
    return now, most


def cpu_seconds(pid: int) -> float:
    """Return the CPU that a process and its descendants have taken so far, in seconds, of all that live.

    From the scheduler's own account in nanoseconds, where /proc/PID/stat counts ticks. For what takes longer than a
    thread lives: a thread that has ended is no longer in it.
    """
    total = 0
    for member in tree(pid):
        try:
            tasks = list(Path(f"/proc/{member}/task").iterdir())
            total += sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)
        except OSError:
            continue  # it has ended
    return total / 1e9
