"""One life on a prefix: claim, restore, let the script work, sync as the watch does, flush.

What the entrypoint does with threads and clocks is done here by hand and in order, so that it can be struck anywhere.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from tests.crash.fuse import Fuse
from tests.crash.journal import Claimed, Commit, Durable, File, Left, TookOver, Tree, Violation, read_tree
from tests.crash.operations import CountedStore, Disk
from tests.crash.script import Move, Script
from tests.crash.world import World, content_of
from tests.logs import each_sentence

from holdfast.attempts import claim, fence
from holdfast.checksum import crc64nvme, from_hex
from holdfast.errors import DamagedError, NoSnapshotError, NotFoundError, SupersededError, TransientStoreError
from holdfast.local.scan import Scan
from holdfast.local.unsent import Unsent
from holdfast.maintenance.retention import Retention
from holdfast.names import checkpoint_of, is_log
from holdfast.restore import restorer
from holdfast.restore.background import BackgroundRestore
from holdfast.restore.plan import Mode
from holdfast.restore.request import Request
from holdfast.snapshot import catalog
from holdfast.snapshot.file_lists import MOST_INLINE, unpack
from holdfast.snapshot.record_json import to_value
from holdfast.stop import NEVER, StoppedError, StopToken
from holdfast.store.retry import RetryingStore
from holdfast.sync.assemble import Engine, assemble
from holdfast.sync.flush import Flush
from holdfast.sync.syncer import Synced, Syncer
from holdfast.watch.schedule import COMMIT_DELAY
from holdfast.watch.settling import Killed, Settling


class Ending(StrEnum):
    """How the script of a life ends, where nothing strikes before."""

    DONE = "ends"
    SIGNAL = "is killed by our signal"
    CRASH = "dies of something else"
    VANISH = "is gone, and we with it"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a life will be.

    Attributes:
        seed: of its script.
        machine: its checkpoint directory.
        moves: how many moves its script makes.
        ending: and what then.
        retention: which snapshots are kept.
        large: how often a file travels in parts.
        most_inline: files that a record lists itself.
        mode: how much of the newest snapshot it restores.
    """

    seed: str
    machine: Path
    moves: int
    ending: Ending
    retention: Retention = field(default_factory=Retention)
    large: float = 0.0
    most_inline: int = MOST_INLINE
    mode: Mode = Mode.ALL


class Life:
    """One attempt, from its claim to its end.

    Args:
        world: where it is lived.
        plan: what it will be.
        fuse: counts what it does.
        disk: is told whose operations are coming.
        workers: runs transfers.
    """

    def __init__(self, world: World, plan: Plan, fuse: Fuse, disk: Disk, workers: Executor) -> None:
        self._world = world
        self._plan = plan
        self._fuse = fuse
        self._disk = disk
        self._workers = workers
        self._dice = random.Random(plan.seed)
        self._deadlines = random.Random(f"{plan.seed} deadlines")
        self._now = 1000.0
        self._settling = Settling()
        self._store = RetryingStore(
            CountedStore(world.backend.open(), fuse, committing=self._committing, committed=self._committed),
            sleep=lambda _: None,
        )
        self._script = Script(
            plan.machine,
            self._dice,
            plan.seed,
            self._settling,
            lambda: self._now,
            plan.large,
        )
        self._base: Tree = {}
        self._pending: Tree = {}
        self._foreign: frozenset[str] = frozenset()
        self._adopted: frozenset[str] = frozenset()
        self._met: set[str] = set()
        self._base_name = ""
        self._seen: Tree = {}
        self._busy: frozenset[str] = frozenset()
        self._dirty_since: float | None = None
        self._move: Move | None = None
        self._number = 0
        self._syncer: Syncer
        self._background: BackgroundRestore

    def live(self) -> None:
        """Live to the end; a crash comes out as it is. Who has been superseded has nothing more to do."""
        with self._disk.used_by(None), suppress(SupersededError):  # what the script does is not counted
            with self._disk.used_by(self._fuse):
                self.begin()
            for _ in range(self._plan.moves):
                self._make_move()
                self._pass_time(self._dice.choice((0.0, 0.1, 1.0, 6.0, 60.0)))
            self._end()

    def close(self) -> None:
        """Close what the script has open, as the kernel does."""
        self._script.die()

    def _make_move(self) -> None:
        """Make a move, or end the one that began during a pass."""
        self._move = move = self._move or self._script.move()
        for seconds in move:
            self._pass_time(seconds)
        if self._move is move:
            self._move = None

    def work_on(self) -> None:
        """Let the script take one more step while the engines are at something, or an older checkpoint arrive."""
        with self._disk.used_by(None):
            if self._plan.mode is Mode.LATEST and self._dice.random() < 0.5:
                self._arrive()
                return
            self._move = self._move or self._script.move()
            if next(self._move, None) is None:
                self._move = None

    def begin(self) -> None:
        """Claim, end who was before, restore."""
        world, machine = self._world, self._plan.machine
        not_before, foreign = world.journal.newest_durable, frozenset(world.foreign)
        with self._disk.used_by(None):
            world.owe(machine)
            before = read_tree(machine)
        self._fuse.stage = "claim"
        found = catalog.read_catalog(self._store)
        claimed = claim.claim(
            self._store, found.attempts, claim.Claimant("h", "0", "local"), started=datetime.now(UTC),
            conditional=claim.honours_conditions(self._store, found, self._workers),
        )  # fmt: skip
        with self._disk.used_by(None):
            world.journal.note(Claimed(claimed.number))
        self._number = claimed.number
        self._fuse.stage = "fence"
        found = fence.fence(self._store, found, claimed)
        self._fuse.stage = "restore"
        unsent = Unsent(machine, "the world", workers=self._workers)
        with self._unless_superseded():
            request = Request(attempt=claimed, mode=self._plan.mode, unsent=unsent)
            done = restorer.restore(self._store, found, machine, request, workers=self._workers)
        with self._disk.used_by(None):
            tree = read_tree(machine)
            name = done.snapshot.name if done.snapshot else None
            kept = _under(tree, {checkpoint for it in done.kept for checkpoint in it.checkpoints})
            world.check_kept(name or "", kept, machine)
            world.check_restored(name, tree, before=before, not_before=not_before, mode=self._plan.mode, kept=kept)
            world.check_owed(machine)
            if self._plan.mode is Mode.LATEST and not world.crowded and not kept:
                world.check_newest(name, machine)
            world.journal.note(TookOver(claimed.number, name or "", self._plan.retention.last))
            commit = world.journal.commits[name] if name else None
            absent = commit.tree if commit else {}
            here = {path: file for path, file in tree.items() if path not in kept}
            self._base = {path: here[path] if path in here else absent[path] for path in done.base.files}
            self._base_name = name or ""
            self._foreign, self._adopted = foreign, commit.adopted if commit else frozenset()
            self._met = set(map(checkpoint_of, tree))
        self._syncer = assemble(
            Engine(store=self._store, workers=self._workers, clock=lambda: datetime.now(UTC)),
            machine,
            claimed,
            done.base,
            retention=self._plan.retention,
            most_inline=self._plan.most_inline,
            unsent=unsent,
        )
        self._settling.finished(state for it in done.kept for state in it.states)
        self._background = BackgroundRestore(
            self._store,
            machine,
            done,
            deferred=self._syncer.deferred,
            located=self._syncer.changes.located,
            workers=self._workers,
            stop=NEVER,
        )

    def _check_sentence(self, text: str) -> None:
        """Report an older checkpoint that does not arrive though it is as it was committed."""
        if "does not arrive" in text and not self._world.crowded:
            self._world.journal.note(Violation(f"TORN: {text}"))

    def _arrive(self) -> None:
        """Let the next of the older checkpoints arrive."""
        with suppress(StoppedError), each_sentence(self._check_sentence):
            self._background.step()

    @contextmanager
    def _unless_superseded(self) -> Iterator[None]:
        """Take an error for what it is: who was asleep while others went on finds what it knew gone or changed."""
        try:
            yield
        except (NoSnapshotError, DamagedError, NotFoundError) as error:
            with self._disk.used_by(None):
                if catalog.read_catalog(self._world.backend.open()).attempts[-1] > self._number:
                    raise SupersededError(str(error)) from error
            raise

    def _pass_time(self, seconds: float) -> None:
        """Let time pass, and do what the watch does then."""
        self._now += seconds
        if self._plan.mode is Mode.LATEST and self._dice.random() < 0.3:
            with self._disk.used_by(self._fuse):
                self._fuse.stage = "arrive"
                self._arrive()
        if self._dice.random() < 0.4:
            return
        with self._disk.used_by(self._fuse):
            self._fuse.stage = "sync"
            self._look()
            scan = self._syncer.scan()
            self._settling.observe(scan.files, self._now)
            dirty = self._syncer.changes.dirty(scan)
            waiting = self._settling.unsettled(dirty, self._now)
            if all(is_log(path) for path in dirty):
                self._tidy(patience=self._dice.choice((3, 30, 1000)))
                self._fuse.stage = "sync"
            if not dirty:
                self._dirty_since = None
                return
            self._dirty_since = self._now if self._dirty_since is None else self._dirty_since
            others_coming = any(not is_log(path) for path in waiting) and self._now < self._dirty_since + COMMIT_DELAY
            if len(waiting) == len(dirty) or others_coming:
                self._send_ahead(scan, dirty)
                return
            pending = self._syncer.settled(scan, waiting)
            self._note_left()
            self._syncer.note_unsent(scan, pending)
            synced = self._syncer.sync(scan, waiting)
            self._syncer.note_unsent(scan, [group for group in pending if group.paths & synced.unfinished.keys()])
            self._dirty_since = self._now if waiting else None
            if all(is_log(path) for path in waiting):
                self._tidy(patience=self._dice.choice((3, 30, 1000)))

    def _send_ahead(self, scan: Scan, dirty: list[str]) -> None:
        """Send what is done of checkpoints that are not; here files of any size."""
        done = [path for path in dirty if path in scan.files and self._settling.is_quiet(path, self._now)]
        states = [scan.files[path] for path in done if not is_log(path) and self._dice.random() < 0.7]
        self._syncer.send_ahead(states, stop=NEVER)

    def _end(self) -> None:
        ending = self._plan.ending
        if ending is Ending.VANISH:
            return
        killed = None
        if ending is not Ending.DONE:
            killed = self._kill_script(seen=ending is Ending.SIGNAL)
        elif self._move is not None:
            self._make_move()
        self.flush(killed, patience=self._deadlines.choice((3, 6, 1000)) if killed else 1_000_000)

    def flush(self, killed: Killed | None = None, *, patience: int = 1_000_000) -> None:
        """Store everything and tidy: what the last pass of the watch does.

        Args:
            killed: how the script ended, where it did not by itself.
            patience: how often it is asked whether the time is up, until it is.
        """
        with self._disk.used_by(self._fuse):
            self._fuse.stage = "flush"
            self._look()
            scan = self._syncer.scan()
            self._settling.observe(scan.files, self._now)
            dirty = self._syncer.changes.dirty(scan)
            held = self._settling.torn(dirty, killed) if killed else []
            asked = iter(range(patience))
            self._note_left()
            flush = Flush(
                self._syncer, stop=StopToken(seconds_left=lambda: 0.0 if next(asked, None) is None else math.inf)
            )
            synced = flush.once(scan, held)
            self._tidy(patience=1000)
        if killed is None:
            self._check_all_is_stored(synced)

    def _note_left(self) -> None:
        with self._disk.used_by(None):
            whole = _under(self._seen, set(map(checkpoint_of, self._seen)) - self._busy)
            self._world.journal.note(Left(self._plan.machine, self._number, self._base_name, whole))

    def _tidy(self, *, patience: int) -> None:
        """Tidy, until the watch has been asked so many times whether there is something better to do."""
        self._fuse.stage = "tidy"
        asked = iter(range(patience))
        try:
            with self._unless_superseded():
                self._syncer.tidy(stop=StopToken(when=lambda: next(asked, None) is None))
        except TransientStoreError as error:
            if not self._world.crowded or "locked by another process" not in str(error):
                raise  # one who sleeps with the lock of the store holds up its tidying, as long as he does

    def _kill_script(self, *, seen: bool) -> Killed:
        """Begin a move and kill the script in it."""
        self._move = self._move or self._script.move()
        for seconds in self._move:
            self._now += seconds
            if self._dice.random() < 0.4:
                break
        at, writing = self._now, frozenset(self._script.open)
        self._now += 0.01
        self._script.die()
        return Killed(at, seen=seen, writing=writing)

    def _check_all_is_stored(self, synced: Synced) -> None:
        """A script that has ended by itself loses nothing, unless it left nothing at all."""
        tree = read_tree(self._plan.machine)
        there = {path: file for path, file in self._base.items() if path not in self._syncer.deferred}
        if tree and (synced.unfinished or there != tree):
            self._world.journal.note(Violation(f"LOST: the flush of {self._plan.seed} left {dict(synced.unfinished)}"))
        if self._syncer.snapshots and not self._world.crowded:
            self._world.check_published(self._base)

    def _look(self) -> None:
        """Remember what there is when a pass begins: what it commits is this, or what was committed before."""
        with self._disk.used_by(None):
            self._seen = read_tree(self._plan.machine)
            self._met.update(map(checkpoint_of, self._seen))
            # An object of another writer counts as committed when it is there: no commit is made for it alone.
            theirs = {path: file for path, file in self._seen.items() if path in self._foreign}
            self._base = {
                **{path: file for path, file in theirs.items() if file.content == self._world.foreign[path]},
                **self._base,
            }
            self._busy = frozenset(self._script.busy)

    def _committing(self, name: str, text: bytes) -> None:
        with self._disk.used_by(None):
            record = json.loads(text)
            store = self._world.backend.open()
            try:
                listed = [unpack(content_of(store, it["key"]), key=it["key"]) for it in record["lists"]]
            except NotFoundError:
                return  # a successor has swept it, so its fence is there: no restore may find this record
            files = [*record["files"], *(to_value(entry) for entries in listed for entry in entries)]
            entries = {entry["path"]: entry for entry in files}
            tree: dict[str, File] = {}
            for path, entry in entries.items():
                for candidate in (self._seen.get(path), self._base.get(path)):
                    if candidate is not None and _is(candidate, entry):
                        tree[path] = candidate
            for problem in [
                *(f"TORN: {name} has {path} as it never was" for path in entries.keys() - tree.keys()),
                *self._mixtures(name, tree),
            ]:
                self._world.journal.note(Violation(problem))
            # What others wrote is taken in when it is there, or something else under the name of its checkpoint.
            adopted = self._adopted | {key for key in self._foreign if checkpoint_of(key) in self._met}
            self._world.journal.note(Commit(name, tree, adopted, complete=record["complete"]))
            self._pending = tree

    def _mixtures(self, name: str, tree: Tree) -> list[str]:
        """Each checkpoint is as the directory had it (and was not being written), or as it was committed before."""
        problems = []
        for checkpoint in {checkpoint_of(path) for path in (*tree, *self._seen, *self._base)}:
            found, seen, base = (_part(which, checkpoint) for which in (tree, self._seen, self._base))
            if found != base and (checkpoint in self._busy or found != seen):
                problems.append(f"TORN: {name} has {checkpoint} half written")
        return problems

    def _committed(self, name: str) -> None:
        with self._disk.used_by(None):
            self._world.journal.note(Durable(name))
            self._base = self._pending


def _under(tree: Tree, checkpoints: set[str]) -> dict[str, File]:
    return {path: file for path, file in tree.items() if checkpoint_of(path) in checkpoints}


def _part(tree: Tree, checkpoint: str) -> Mapping[str, File]:
    return {path: file for path, file in tree.items() if checkpoint_of(path) == checkpoint and not is_log(path)}


def _is(file: File, entry: Mapping[str, object]) -> bool:
    described = (entry["size"], entry["mtime_ns"], from_hex(str(entry["crc64nvme"])))
    return described == (len(file.content), file.mtime_ns, crc64nvme(file.content))
