"""Everybody in turn, round after round: transfers measured, what arrived verified, nothing left for the next."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import measure
from benchmarks.contestants import Contestant, Job, Line
from benchmarks.server import Server
from benchmarks.verification import DifferenceError, Sums, require_same, sums_at, sums_of
from benchmarks.workloads import Workload, age, size_of

ROOT = Path(__file__).parent.parent
BUCKET = "bench"


@dataclass(frozen=True, slots=True)
class Measured:
    """One transfer.

    Attributes:
        step: `up`, `down`, `again`, or `first`: the upload before `again`.
        wall: seconds.
        cpu: seconds of CPU of the client, its children included.
        peak_mib: the most memory that it took.
        received: bytes that the server got.
        sent: bytes that the server gave.
        requests: by the names that S3 gives them.
        server_cpu: seconds of CPU of the server.
        changed: bytes that were new, rounded to parts of 16 MiB (`again`).
    """

    step: str
    wall: float
    cpu: float
    peak_mib: float
    received: int
    sent: int
    requests: Mapping[str, int]
    server_cpu: float
    changed: int = 0


@dataclass(slots=True)
class Entry:
    """What one contestant did with one workload.

    Attributes:
        contestant: who.
        runs: all rounds.
        problem: why there is nothing, or not everything: a program is missing, it failed, or what arrived was wrong.
    """

    contestant: Contestant
    runs: list[Measured] = field(default_factory=list)
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A workload, and what everybody did with it.

    Attributes:
        workload: which.
        tls: whether over TLS.
        files: how many.
        size: bytes of all of them.
        entries: one for each who could have taken part.
    """

    workload: Workload
    tls: bool
    files: int
    size: int
    entries: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class Ring:
    """Where the comparison takes place.

    Attributes:
        server: for all.
        work: an empty folder on the disk where checkpoints would lie.
        binaries: folder of the programs that are compared.
        show: prints one line of progress.
    """

    server: Server
    work: Path
    binaries: Path
    show: Callable[[str], None]

    def compare(self, workload: Workload, contestants: Sequence[Contestant], rounds: int, divisor: int) -> Comparison:
        """Measure a workload.

        Args:
            workload: what is moved.
            contestants: who may take part.
            rounds: how often each.
            divisor: of the sizes.
        """
        source = self.work / workload.name
        source.mkdir()
        workload.build(source, divisor)
        age(source)
        sums = sums_of(source)  # also brings everything into the page cache
        tls = self.server.authority is not None
        entries = [
            Entry(one, problem=one.missing(self.binaries, tls=tls))
            for one in contestants
            if _fits(one, workload, len(sums))
        ]
        for number in range(rounds):
            for entry in entries:
                if entry.problem is None:
                    scheme = "TLS" if tls else "HTTP"
                    self.show(f"{scheme}, {workload.title}: {entry.contestant.name}, {number + 1} of {rounds}")
                    self._take_turn(entry, workload, source, sums)
        size = size_of(source)
        shutil.rmtree(source)
        return Comparison(workload, tls, len(sums), size, entries)

    def _take_turn(self, entry: Entry, workload: Workload, source: Path, sums: Sums) -> None:
        arrived, scratch = self.work / "arrived", self.work / "scratch"
        for folder in (arrived, scratch):
            folder.mkdir()
        job = Job(self.server, BUCKET, source, source, self.binaries, scratch)
        turn = _Turn(entry.contestant, job, arrived, self.work / "log")
        try:
            entry.runs += turn.again(workload, sums) if "again" in workload.steps else turn.there_and_back(sums)
        except (DifferenceError, FailedError) as error:
            entry.problem = str(error)
        finally:
            self.server.forget(BUCKET)
            for folder in (arrived, scratch):
                shutil.rmtree(folder)


def _fits(one: Contestant, workload: Workload, number: int) -> bool:
    """Say whether a contestant can do what a workload of so many files asks for."""
    if "again" in workload.steps:
        return one.syncs and not (one.is_run and workload.change)
    return not one.is_run and not (one.only_one_file and number > 1)


class FailedError(Exception):
    """A program did not end well."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """What one contestant does with one workload in one round."""

    contestant: Contestant
    job: Job
    arrived: Path
    log: Path

    def there_and_back(self, sums: Sums) -> list[Measured]:
        up = self._run("up", self.contestant.up, self.job)
        if self.contestant.stores and not self.contestant.below:
            require_same(sums, sums_at(self.job.server, self.job.bucket, sums))
        down = self._run("down", self.contestant.down, replace(self.job, directory=self.arrived))
        self._require_arrived(sums)
        return [up, down]

    def again(self, workload: Workload, sums: Sums) -> list[Measured]:
        """Upload, let something change, and measure the second upload."""
        first = self._run("first", self.contestant.up, self.job)
        changed = 0
        if workload.change:
            changed = workload.change(self.job.source)
            sums.clear()
            sums.update(sums_of(self.job.source))
        second = self._run("again", self.contestant.up, self.job)
        self._run("down", self.contestant.down, replace(self.job, directory=self.arrived))
        self._require_arrived(sums)
        return [first, replace(second, changed=changed)]

    def _require_arrived(self, sums: Sums) -> None:
        arrived = self.arrived / self.job.source.name if self.contestant.below else self.arrived
        require_same(sums, sums_of(arrived))

    def _run(self, step: str, line: Line, job: Job) -> Measured:
        environ = measure.environment(job.scratch.parent, **self.contestant.environ(job))
        self.log.write_bytes(b"")
        os.sync()  # no contestant waits for the writes of another
        job.server.reset()
        usage = measure.run(line(job), environ=environ, cwd=ROOT, log=self.log)
        counted = job.server.counted()
        if usage.status:
            last = self.log.read_text(errors="replace").strip().splitlines()[-1:]
            raise FailedError(f"{step}: exit code {usage.status}: {' '.join(last)}")
        return Measured(
            step, usage.wall, usage.cpu, usage.peak_mib, counted.received, counted.sent, counted.requests,
            counted.cpu_seconds,
        )  # fmt: skip
