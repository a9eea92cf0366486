"""Two hosts on one prefix, of which either may be killed at any operation: they never resume from different epochs.

The job is a gang: every epoch both hosts rewrite their shard of one directory in place, and a file of their own, and
commit. When one has been killed the other goes on for a while, as a collective that has not timed out yet; then the job
is started again, both hosts on new machines or where they were.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tests.crash.fuse import Charge, Crash, Fuse, Struck, by_chance
from tests.crash.journal import Died, read_tree
from tests.crash.operations import CountedStore, Disk
from tests.crash.world import Broken, InOrder, World

from holdfast.attempts import fence, rendezvous
from holdfast.attempts.claim import Claimant
from holdfast.attempts.rendezvous import Group
from holdfast.maintenance.retention import Retention
from holdfast.restore import restorer
from holdfast.restore.request import Request
from holdfast.snapshot import candidates, catalog
from holdfast.snapshot.file_lists import MOST_INLINE
from holdfast.store import Condition, Metadata, ObjectInfo, Part
from holdfast.store.retry import RetryingStore
from holdfast.sync.assemble import Engine, assemble
from holdfast.sync.syncer import Syncer

if TYPE_CHECKING:
    from tests.crash.scenario import Tally

HOSTS = ("a", "b")
_EPOCH_SECONDS = 300


class ClockedStore(CountedStore):
    """A counted store whose clock is the job's.

    Args:
        job: whose.
        fuse: as in CountedStore.
    """

    def __init__(self, job: Job, fuse: Fuse) -> None:
        super().__init__(job.world.backend.open(), fuse, committing=lambda *_: None, committed=lambda _: None)
        self._job = job

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for info in super().list(prefix):
            yield replace(info, modified=self._job.stored_at.get(info.key, info.modified))

    def put(self, key: str, part: Part, *, metadata: Metadata | None = None, condition: Condition | None = None) -> str:
        self._job.stored_at.setdefault(key, self._job.clock().timestamp())
        return super().put(key, part, metadata=metadata, condition=condition)


class Host:
    """One host in one start of the job.

    Args:
        job: which.
        name: of the host.
        directory: its checkpoint directory.
        fuse: counts what it does.
    """

    def __init__(self, job: Job, name: str, directory: Path, fuse: Fuse) -> None:
        self.name = name
        self.directory = directory
        self.fuse = fuse
        self.resumed = False
        self._job = job
        self._store = RetryingStore(ClockedStore(job, fuse))
        self._syncer: Syncer

    def begin(self, run: str, retention: Retention) -> None:
        """Join the start of the job, and restore what all hosts restore."""
        self.fuse.stage = "join"
        group = Group(HOSTS, run)
        claimed, found, base = rendezvous.join(
            self._store, group, Claimant(self.name, "0", "local"), clock=self._job.clock,
            workers=InOrder(),
        )  # fmt: skip
        self.fuse.stage = "fence"
        found = fence.fence(self._store, found, claimed)
        self.fuse.stage = "restore"
        chosen = [candidates.of(self._store, found, base, InOrder())] if base else []
        request = Request(attempt=claimed, candidates=chosen)
        done = restorer.restore(self._store, found, self.directory, request, workers=InOrder())
        self._syncer = assemble(
            Engine(store=self._store, workers=InOrder(), clock=self._job.clock),
            self.directory,
            claimed,
            done.base,
            retention=retention,
            most_inline=self._job.most_inline,
        )
        self.resumed = done.snapshot is not None

    def write(self, label: str) -> None:
        """Write what the script writes in an epoch."""
        moment = self._job.clock().timestamp()
        for path in (f"step/shard-{self.name}", f"own-{self.name}"):
            target = self.directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(f"{label} {path}")
            os.utime(target, (moment, moment))

    def commit(self) -> None:
        self.fuse.stage = "commit"
        self._syncer.sync(self._syncer.scan())

    def tidy(self) -> None:
        self.fuse.stage = "tidy"
        self._syncer.tidy()

    def speak(self) -> None:
        self.fuse.stage = "speak"
        self._syncer.repeat()


class Job:
    """Starts of a job, one after the other.

    Args:
        world: its prefix.
        disk: counts.
        tally: is kept.
        dice: decide everything.
    """

    def __init__(self, world: World, disk: Disk, tally: Tally, dice: random.Random) -> None:
        self.world = world
        self._disk = disk
        self._tally = tally
        self.most_inline = MOST_INLINE
        self._dice = dice
        self._now = datetime(2026, 11, 21, tzinfo=UTC)
        self._machines = {name: world.machine() for name in HOSTS}
        self.stored_at: dict[str, float] = {}
        self._floor = ""  # the newest epoch that both hosts have committed, since which nothing older may come back

    def clock(self) -> datetime:
        return self._now

    def play(self) -> None:
        """Start the job a few times.

        Raises:
            Broken: the hosts have resumed from different epochs, or from an older one than both had committed.
        """
        for start in range(self._dice.randint(3, 6)):
            self._now += timedelta(seconds=self._dice.choice((1, 60, 1000)))
            self._start(start)
            self._check_what_a_reader_gets()

    def _start(self, start: int) -> None:
        # Without a run, hosts can come apart for good: tests/crash/test_findings.py.
        run = f"run-{start}"
        retention = self._dice.choice((Retention(last=1), Retention(last=2), Retention(last=None)))
        self.most_inline = self._dice.choice((0, 1, MOST_INLINE))
        hosts = []
        for name in self._dice.sample(HOSTS, 2):
            if self._dice.random() < 0.5:
                self._machines[name] = self.world.machine()
            host = Host(self, name, self._machines[name], self._fuse())
            self._tally.lives += 1
            if self._survives(host, lambda host=host: host.begin(run, retention)):  # type: ignore[misc]
                self._check_resumed(host)
                hosts.append(host)
        if len(hosts) == 2 and hosts[0].resumed:
            self._check_same(*hosts)
        self._train(start, hosts)

    def _train(self, start: int, hosts: list[Host]) -> None:
        together = len(hosts) == 2
        for epoch in range(self._dice.randint(1, 4)):
            self._now += timedelta(seconds=_EPOCH_SECONDS)
            label = f"{start:03d}-{epoch:03d}"
            for host in hosts:
                self._now += timedelta(seconds=1)
                with self._disk.used_by(None):
                    host.write(label)
            for host in self._dice.sample(hosts, len(hosts)):
                self._now += timedelta(seconds=1)
                if not self._survives(host, host.commit):
                    hosts.remove(host)
            if together and len(hosts) == 2:
                self._floor = label
                self._tally.commits += 2
            for _ in range(self._dice.choice((1, 1, 6))):  # the minutes until the next epoch
                self._now += timedelta(seconds=self._dice.choice((1, 60)))
                for host in [*hosts]:
                    if not (self._survives(host, host.speak) and self._survives(host, host.tidy)):
                        hosts.remove(host)

    def _fuse(self) -> Fuse:
        fuse = Fuse()

        def strike(struck: Struck) -> None:
            with self._disk.used_by(None):
                self._tally.kill(f"{self.world.backend.kind}, two hosts", Died(struck, process=False))
            fuse.crash(struck)

        fuse.add(Charge(by_chance(random.Random(self._dice.random()), self._dice.choice((0.0, 0.4, 1.0))), strike))
        return fuse

    def _survives(self, host: Host, work: Callable[[], None]) -> bool:
        with suppress(Crash), self._disk.used_by(host.fuse):
            work()
        return not host.fuse.dead

    def _check_resumed(self, host: Host) -> None:
        with self._disk.used_by(None):
            tree = {path: file.content.decode() for path, file in read_tree(host.directory).items()}
        # Where the prefix has nothing, the directory stays as it was.
        self._check_tree(f"host {host.name}", tree if host.resumed else {})

    def _check_tree(self, who: str, tree: dict[str, str]) -> None:
        labels = {text.split()[0] for text in tree.values()}
        wrong = [path for path, text in tree.items() if text.split()[1] != path]
        whole = {f"step/shard-{name}" for name in HOSTS} | {f"own-{name}" for name in HOSTS}
        if len(labels) > 1 or wrong or (tree and tree.keys() != whole):
            raise Broken(f"TORN: {who} resumes from {tree}")
        if max(labels, default="") < self._floor:
            raise Broken(f"LOST: {who} resumes from {labels or 'nothing'}, and both had committed {self._floor}")

    def _check_same(self, one: Host, other: Host) -> None:
        trees = [{path: file.content for path, file in read_tree(host.directory).items()} for host in (one, other)]
        if trees[0] != trees[1]:
            raise Broken(f"TORN: the hosts resume from {trees[0]} and {trees[1]}")

    def _check_what_a_reader_gets(self) -> None:
        empty = self.world.root / f"reader-{self._now.timestamp():.0f}"
        store = self.world.backend.open()
        with self._disk.used_by(None):
            found = catalog.read_catalog(store)
            restorer.restore(store, found, empty, workers=InOrder())
            tree = {path: file.content.decode() for path, file in read_tree(empty).items()}
        self._check_tree("a reader", tree)
