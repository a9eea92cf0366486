"""A case: a few lives on one prefix, each of which may be killed, and what is checked after each."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.fuse import Charge, Crash, Decide, Fuse, Moment, Operation, Struck, by_chance
from tests.crash.hosts import Job
from tests.crash.journal import Died, Violation
from tests.crash.life import Ending, Life, Plan
from tests.crash.operations import Disk
from tests.crash.world import Backend, Broken, InOrder, World

from holdfast.maintenance.retention import Retention
from holdfast.restore import plan as wanted
from holdfast.restore.plan import Mode
from holdfast.snapshot import file_lists as lists
from holdfast.store import Part, Store
from holdfast.store.directory import lock as directory_lock
from holdfast.store.directory.store import DirectoryStore
from holdfast.store.location import Location
from holdfast.store.s3.settings import S3Settings, from_environ
from holdfast.store.s3.store import S3Store
from holdfast.transfer import parts
from holdfast.transfer import server_copy as copying
from holdfast.transfer import upload as transfer

MIB = 1 << 20
MOST_LIVES = 6
TWO_HOSTS = 0.2
"""The share of cases that are a job of two hosts."""
LARGE_FILES = 0.25
"""The share of the others in which some files travel in parts."""
_QUICK_DISK = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A `file://` store."""

    root: Path
    kind: str = "file"
    takes_small_parts: bool = True

    def open(self) -> Store:
        return DirectoryStore(self.root)

    def intrude(self, key: str, content: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@dataclass(frozen=True, slots=True)
class OnS3:
    """A prefix on a real S3 server."""

    location: Location
    settings: S3Settings
    takes_small_parts: bool
    kind: str = "s3"

    def open(self) -> Store:
        return S3Store(self.location, self.settings)

    def intrude(self, key: str, content: bytes) -> None:
        self.open().put(key, Part.of(content))


@contextmanager
def small_parts() -> Iterator[None]:
    """Let files of 2 MiB travel in parts of 1 MiB, instead of 64 and 16, and lists have a few files, instead of 8,192.

    What is tested does not depend on it. And let no older checkpoint come before the script only because it is small:
    here all are.
    """
    settings = (
        (transfer, "SINGLE_PUT", 2 * MIB),
        (copying, "SINGLE_COPY", 2 * MIB),
        (parts, "PART_SIZE", MIB),
        (lists, "MEAN", 2),
        (wanted, "SMALL", 0),
        (wanted, "TOGETHER", 0),
        (directory_lock, "WAIT_SECONDS", 0.0),  # who sleeps with the lock sleeps for as long as others live
    )
    with ExitStack() as stack:
        for module, name, size in settings:
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, size)
        yield


@contextmanager
def new_world(
    server: Mapping[str, str] | None = None, bucket: str = "", *, takes_small_parts: bool = False
) -> Iterator[World]:
    """Make a world, on a disk in memory where there is one, and end it.

    Args:
        server: the environment in which an S3 server is found; None: the store is a directory.
        bucket: of that server.
        takes_small_parts: whether it lets the parts of an upload be smaller than S3 does.
    """
    root = Path(tempfile.mkdtemp(prefix="holdfast-crash-", dir=_QUICK_DISK if _QUICK_DISK.is_dir() else None))
    try:
        backend: Backend = OnDisk(root / "store")
        if server is not None:
            backend = OnS3(Location("s3", bucket, root.name), from_environ(server), takes_small_parts)
        else:
            (root / "store").mkdir()
        yield World(root, backend)
    finally:
        shutil.rmtree(root)


@dataclass
class Tally:
    """What was done, counted.

    Attributes:
        cases: scenarios.
        lives: attempts that began.
        kills: lives that were ended at an operation, by store, way, operation and moment.
        failures: what a case broke, and how it is replayed.
    """

    cases: int = 0
    lives: int = 0
    meetings: int = 0
    commits: int = 0
    kills: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def killed(self) -> int:
        return self.kills.total()

    def kill(self, store: str, death: Died) -> None:
        way = "SIGKILL" if death.process else "raised"
        self.kills[store, way, str(death.struck.operation), death.struck.moment.value] += 1

    def add(self, other: Tally) -> None:
        self.cases += other.cases
        self.lives += other.lives
        self.meetings += other.meetings
        self.commits += other.commits
        self.kills += other.kills
        self.failures += other.failures


class Stage:
    """Where lives are lived: one world and the disk that counts.

    Args:
        world: the world.
        disk: with its operations counted.
        tally: is kept.
    """

    def __init__(self, world: World, disk: Disk, tally: Tally) -> None:
        self.world = world
        self._disk = disk
        self._tally = tally

    def live(
        self,
        plan: Plan,
        decide: Decide,
        *,
        process: bool = False,
        meets: Charge | None = None,
        works: Decide | None = None,
    ) -> list[Operation]:
        """Live one life, kill it where `decide` says, and check the world; return the operations that were seen.

        Args:
            plan: of the life.
            decide: where it is killed.
            process: it is a process of its own, and the kill a SIGKILL; its operations are not returned.
            meets: what happens meanwhile, and where.
            works: where the script takes a step of its own during an operation of a sync.
        """
        journal = self.world.journal
        self._tally.lives += 1
        deaths, commits = len(journal.deaths), len(journal.commits)
        fuse = Fuse(*([meets] if meets else []))

        def strike(struck: Struck) -> None:
            with self._disk.used_by(None):
                journal.note(Died(struck, process))
            if process:
                os.kill(os.getpid(), signal.SIGKILL)
            fuse.crash(struck)

        fuse.add(Charge(decide, strike))
        life = Life(self.world, plan, fuse, self._disk, InOrder())
        if works is not None:
            fuse.add(Charge(_only_in("sync", works), lambda _: life.work_on()))
        if process:
            self._in_a_process(life)
        else:
            with suppress(Crash), closing(life):
                life.live()
        with self._disk.used_by(None):
            self.world.check()
        self._tally.commits += len(journal.commits) - commits
        for death in journal.deaths[deaths:]:
            self._tally.kill(self.world.backend.kind, death)
        return fuse.operations

    def _in_a_process(self, life: Life) -> None:
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            self.world.journal.refresh()
            if status not in (0, signal.SIGKILL):
                raise Broken(f"a process ended with {status}")
            return
        try:
            life.live()
        except BaseException:  # noqa: BLE001  no caller above could report it
            self._disk.fuse = None
            self.world.journal.note(Violation(traceback.format_exc()))
        finally:
            os._exit(0)


def _only_in(stage: str, decide: Decide) -> Decide:
    return lambda number, operation: decide(number, operation) if operation.stage == stage else None


@dataclass(frozen=True, slots=True)
class Case:
    """A scenario by chance: the same name is the same scenario.

    Attributes:
        seed: of the campaign.
        number: within it.
        lives: which of its lives are lived; None: all.
        moves: how many moves a script makes at most.
    """

    seed: int
    number: int
    lives: frozenset[int] | None = None
    moves: int = 6

    def play(self, world: World, disk: Disk, tally: Tally) -> None:
        """Live it.

        Raises:
            Broken: something is as it must never be.
        """
        dice = random.Random(f"{self.seed}:{self.number}")
        tally.cases += 1
        if dice.random() < TWO_HOSTS:
            Job(world, disk, tally, dice).play()
            return
        stage = Stage(world, disk, tally)
        large = 0.25 if dice.random() < LARGE_FILES and world.backend.takes_small_parts else 0.0
        machine = world.machine()
        for life in range(dice.randint(2, MOST_LIVES)):
            own = random.Random(dice.random())
            if self.lives is not None and life not in self.lives:
                continue
            if own.random() < 0.5:
                machine = world.machine()
            if own.random() < 0.2:
                world.intrude(own.choice((f"foreign-{life}", f"sharded/foreign-{life}")))
            self._live(stage, own, self._plan(own, f"{self.number}.{life}", machine, large), tally)

    def _plan(self, dice: random.Random, name: str, machine: Path, large: float) -> Plan:
        moves = min(self.moves, dice.randint(1, 6))
        retention = dice.choice((Retention(), Retention(last=1), Retention(last=None), Retention(last=2)))
        ending, most_inline = dice.choice([*Ending, Ending.DONE]), dice.choice((0, 2, lists.MOST_INLINE))
        mode = dice.choice((Mode.ALL, Mode.ALL, Mode.LATEST, Mode.NONE))
        return Plan(name, machine, moves, ending, retention, large, most_inline, mode)

    def _live(self, stage: Stage, dice: random.Random, plan: Plan, tally: Tally) -> None:
        hazard = dice.choice((0.0, 0.5, 1.0, 2.0))
        decide = by_chance(random.Random(dice.random()), hazard)
        works = _between(by_chance(random.Random(dice.random()), 1.0)) if dice.random() < 0.3 else None
        meets = None
        if dice.random() < 0.25:
            other = random.Random(dice.random())

            def meet(_: Struck) -> None:
                tally.meetings += 1
                stage.world.crowded = True
                successor = self._plan(other, f"{plan.seed}.successor", stage.world.machine(), plan.large)
                self._live(stage, other, successor, tally)

            meets = Charge(_between(by_chance(random.Random(dice.random()), 0.7)), meet)
        stage.live(plan, decide, process=dice.random() < 0.4, meets=meets, works=works)


def _between(decide: Decide) -> Decide:
    """Between two operations: nothing that others can see happens in the middle of one."""

    def between(number: int, operation: Operation) -> Moment | None:
        moment = decide(number, operation)
        return Moment.BEFORE if moment is Moment.MIDDLE else moment

    return between
