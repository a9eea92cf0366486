"""Any order of what may happen to two attempts on one prefix leaves a restore with exactly one committed snapshot."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, suppress
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.crash.fuse import Fuse
from tests.crash.life import Ending, Life, Plan
from tests.crash.operations import Disk
from tests.crash.scenario import new_world
from tests.crash.world import InOrder, World

from holdfast.errors import SupersededError
from holdfast.maintenance.retention import Retention

PATHS = st.sampled_from(("last", "best", "step-1/shard-0", "step-1/shard-1", "step-2/shard-0"))
CONTENTS = st.sampled_from((b"", b"1", b"22", b"another"))
KEEPS = st.sampled_from((Retention(last=1), Retention(last=2), Retention(last=None)))


class TwoAttempts(RuleBasedStateMachine):
    """The newest attempt, and the one before it, which may be alive still and does not know that it is over."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._lives: list[tuple[Life, Path]] = []

    @initialize()
    def begin(self) -> None:
        self.world = self._stack.enter_context(new_world())
        self.world.crowded = True

    @rule(keeps=KEEPS, same_machine=st.booleans())
    def start(self, keeps: Retention, same_machine: bool) -> None:
        """A new container; on a new machine, or where the newest one has just died."""
        machine = self._lives.pop()[1] if self._lives and same_machine else self.world.machine()
        number = len(self.world.journal.claims)
        life = Life(self.world, Plan(f"{number}", machine, 0, Ending.DONE, keeps), Fuse(), Disk(), InOrder())
        life.begin()
        self._lives = [*self._lives, (life, machine)][-2:]

    @precondition(lambda self: self._lives)
    @rule(which=st.integers(0, 1), path=PATHS, content=CONTENTS)
    def write(self, which: int, path: str, content: bytes) -> None:
        target = self._lives[which % len(self._lives)][1] / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    @precondition(lambda self: self._lives)
    @rule(which=st.integers(0, 1), path=PATHS)
    def delete(self, which: int, path: str) -> None:
        (self._lives[which % len(self._lives)][1] / path).unlink(missing_ok=True)

    @precondition(lambda self: self._lives)
    @rule(which=st.integers(0, 1))
    def wipe(self, which: int) -> None:
        machine = self._lives[which % len(self._lives)][1]
        for path in machine.iterdir():
            if path.name != ".holdfast":
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    @precondition(lambda self: self._lives)
    @rule(which=st.integers(0, 1))
    def commit(self, which: int) -> None:
        """Store everything, publish, delete what is not kept; the older of two attempts finds that it is superseded."""
        with suppress(SupersededError):
            self._lives[which % len(self._lives)][0].flush()

    @precondition(lambda self: self._lives)
    @rule(which=st.integers(0, 1))
    def die(self, which: int) -> None:
        self._lives.pop(which % len(self._lives))

    @rule(number=st.integers(0, 3))
    def intrude(self, number: int) -> None:
        """Another writer puts a file beside ours, once."""
        if f"foreign-{number}" not in self.world.foreign:
            self.world.intrude(f"foreign-{number}")

    @invariant()
    def a_restore_gives_one_committed_snapshot_and_every_kept_record_holds(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        self._stack.close()


TwoAttempts.TestCase.settings = settings(
    max_examples=50, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestTwoAttempts = TwoAttempts.TestCase
