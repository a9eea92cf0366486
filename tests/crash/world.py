"""A world: one prefix, machines that come and go, and what must be true of them after every death."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.crash.journal import Commit, File, Journal, Owes, Paid, Tree, Violation, read_tree
from tests.logs import each_sentence

from holdfast.errors import HoldfastError
from holdfast.names import checkpoint_of
from holdfast.restore import restorer
from holdfast.restore.plan import Mode
from holdfast.script.checkpoints import latest
from holdfast.snapshot import catalog, keys
from holdfast.snapshot.catalog import Catalog
from holdfast.snapshot.record import Snapshot
from holdfast.snapshot.records import load_record
from holdfast.store import Store


class Broken(AssertionError):  # noqa: N818  it is a verdict
    """The world is in a state that must never be."""


class Backend(Protocol):
    """Where the prefix of a world is."""

    @property
    def kind(self) -> str:
        """`file` or `s3`."""
        ...

    @property
    def takes_small_parts(self) -> bool:
        """Whether the parts of an upload may be as small as `small_parts` makes them."""
        ...

    def open(self) -> Store:
        """Open the store, as a new process does."""
        ...

    def intrude(self, key: str, content: bytes) -> None:
        """Write an object as a program that knows nothing of holdfast."""
        ...


class InOrder(Executor):
    """Runs what it is given at once, so that a life's operations come in the same order every time."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001  as a pool does
            future.set_exception(error)
        return future


@dataclass
class World:
    """Everything that outlives a life.

    Args:
        root: a directory of its own.
        backend: where the prefix is.

    Attributes:
        foreign: what others wrote below the prefix, by key.
        crowded: two attempts have been alive at the same time.
    """

    root: Path
    backend: Backend
    journal: Journal = field(init=False)
    foreign: dict[str, bytes] = field(default_factory=dict)
    crowded: bool = False
    _proven: set[tuple[str, str, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        path = self.root / "journal"
        path.touch()
        self.journal = Journal(path)

    def machine(self) -> Path:
        """Return the checkpoint directory of a machine that has just come."""
        number = len([*self.root.glob("machine-*")])
        machine = self.root / f"machine-{number}"
        machine.mkdir()
        return machine / "checkpoints"

    def intrude(self, name: str) -> None:
        content = f"{name} of another writer".encode()
        self.foreign[name] = content
        self.backend.intrude(name, content)

    def expected(self, commit: Commit | None) -> dict[str, bytes]:
        """Return what a restore makes of a commit: its files, and what others have put beside it since."""
        files = {path: file.content for path, file in commit.tree.items()} if commit else {}
        adopted = commit.adopted if commit else frozenset()
        return files | {key: content for key, content in self.foreign.items() if key not in adopted}

    def check_restored(
        self,
        name: str | None,
        tree: Mapping[str, File],
        *,
        before: Mapping[str, File],
        not_before: str,
        mode: Mode = Mode.ALL,
        kept: Tree | None = None,
    ) -> None:
        """Hold what a restore gave against what was committed.

        Args:
            name: the snapshot that it says it restored.
            tree: what there is now.
            before: what there was: that stays where the prefix has nothing at all.
            not_before: the newest commit that was durable when it began.
            mode: how much of it was to be restored: of checkpoints that are there, all.
            kept: what it says an earlier life on this machine had finished.
        """
        if name is not None and name not in self.journal.commits:
            raise Broken(f"TORN: restored {name}, which no attempt committed")
        if (name or "") < not_before:
            raise Broken(f"LOST: restored {name}, and {not_before} was durable")
        commit = self.journal.commits[name] if name else None
        found = {path: file.content for path, file in tree.items()}
        expected = self.expected(commit)
        if expected and mode is not Mode.ALL:
            there = set(map(checkpoint_of, found))
            expected = {path: content for path, content in expected.items() if checkpoint_of(path) in there}
        elif not expected and not kept:
            expected = {path: file.content for path, file in before.items()}
        mine = set(map(checkpoint_of, kept or {}))
        expected = {path: content for path, content in expected.items() if checkpoint_of(path) not in mine}
        expected |= {path: file.content for path, file in (kept or {}).items()}
        if found != expected:
            raise Broken(f"TORN: restored {name}: {_difference(expected, found)}")
        for path, file in (commit.tree if commit else {}).items():
            if checkpoint_of(path) in mine or path in self.foreign:
                continue
            if path in tree and tree[path].mtime_ns != file.mtime_ns:
                raise Broken(f"TORN: restored {name}: {path} has another time")

    def check_kept(self, name: str, kept: Tree, machine: Path) -> None:
        """Hold what a restore left as it was against what was finished there, with nothing committed since.

        Args:
            name: the snapshot that it says it restored; empty: none.
            kept: what it left, as it is now.
            machine: where.
        """
        left = self.journal.left.get(machine)
        if kept and (left is None or not left.is_newest(name)):
            raise Broken(f"TORN: kept {sorted(kept)} on top of {name}, which comes behind it")
        for checkpoint in set(map(checkpoint_of, kept)):
            finished = {path: it for path, it in left.tree.items() if checkpoint_of(path) == checkpoint} if left else {}
            if finished != {path: it for path, it in kept.items() if checkpoint_of(path) == checkpoint}:
                raise Broken(f"TORN: kept {checkpoint}, which was never finished so")

    def check_newest(self, name: str | None, machine: Path) -> None:
        """Hold the newest checkpoint that a machine has against the one that it has when everything is restored."""
        store, everything = self.backend.open(), self.root / "everything"
        done = restorer.restore(store, catalog.read_catalog(store), everything, workers=InOrder())
        newest, there = latest(directory=everything), latest(directory=machine)
        is_same = (done.snapshot.name if done.snapshot else None) == name
        if done.checkpoints and is_same and (newest and newest.name) != (there and there.name):
            raise Broken(f"LOST: restored {name} with {there} as the newest checkpoint, and it is {newest}")
        shutil.rmtree(everything)

    def check(self) -> None:
        """Prove that nothing is torn, lost or damaged: look at every record, and restore into an empty directory."""
        self.journal.refresh()
        if self.journal.violations:
            raise Broken(self.journal.violations[0])
        store = self.backend.open()
        found = catalog.read_catalog(store)
        snapshots = self._check_records(store, found)
        empty = self.root / "empty"
        said: list[str] = []
        try:
            with each_sentence(said.append):
                done = restorer.restore(store, found, empty, workers=InOrder())
        except HoldfastError as error:
            raise Broken(f"LOST: a restore fails: {error!r}") from error
        if said:
            raise Broken(f"TORN: a restore into an empty directory has something to log: {said}")
        name = done.snapshot.name if done.snapshot else None
        if name != max(snapshots, default=None):
            raise Broken(f"LOST: restored {name}, and {max(snapshots)} is there")
        self.check_restored(name, read_tree(empty), before={}, not_before=self.journal.newest_durable)
        shutil.rmtree(empty)

    def _check_records(self, store: Store, found: Catalog) -> list[str]:
        """Every record that is there was committed, and all it names is there as it was; those kept are there."""
        snapshots = []
        for name in found.snapshots:
            loaded = load_record(store, name)
            if isinstance(loaded, Snapshot):
                snapshots.append(name)
                self._check_record(store, found, loaded)
        durable = (name for name, commit in self.journal.commits.items() if commit.durable)
        committed = self.journal.counting({*snapshots, *durable})
        gone = set(committed[-self.journal.kept :]) - set(snapshots)
        if gone:
            raise Broken(
                f"LOST: the records {sorted(gone)} are gone, and the newest {self.journal.kept} were to be kept"
            )
        return snapshots

    def _check_record(self, store: Store, found: Catalog, snapshot: Snapshot) -> None:
        if snapshot.name not in self.journal.commits:
            raise Broken(f"TORN: no attempt committed {snapshot.name}")
        tree = self.journal.commits[snapshot.name].tree
        objects = {**found.objects().plain, **found.objects().stored}
        for path, entry in snapshot.files.items():
            there = objects.get(entry.key)
            if there is None or there.etag != entry.etag:
                there = objects.get(entry.preserved or "")
            if there is None:
                raise Broken(f"TORN: {snapshot.name} names {entry.key}, which is gone or another, and not preserved")
            if (there.key, there.etag, entry.crc64nvme) not in self._proven:
                if content_of(store, there.key) != tree[path].content:
                    raise Broken(f"TORN: {snapshot.name} names {there.key}, which does not hold {path}")
                self._proven.add((there.key, there.etag, entry.crc64nvme))

    def check_published(self, tree: Tree) -> None:
        """Every plain key holds what the newest snapshot has for it, or nothing of ours."""
        store = self.backend.open()
        there = catalog.read_catalog(store).objects().plain
        for path, file in tree.items():
            info = store.head(path) if path in there else None
            if info is not None and keys.OWNER in (info.metadata or {}) and content_of(store, path) != file.content:
                self.journal.note(Violation(f"STALE: the plain key {path} is not what the newest snapshot has"))

    def owe(self, machine: Path) -> None:
        """Remember what a machine holds before a restore touches it."""
        self.journal.note(Owes(machine, frozenset(_digests(machine))))

    def check_owed(self, machine: Path) -> None:
        """Nothing that a machine held is lost: it is in place, or was moved aside."""
        kept = _digests(machine)
        for aside in (machine / ".holdfast" / "staging", *(machine / ".holdfast" / "displaced").glob("*")):
            kept |= _digests(aside)
        if self.journal.owed.get(machine, frozenset()) - kept:
            raise Broken(f"LOST: a restore has deleted a file of {machine.parent.name}")
        self.journal.note(Paid(machine))


def content_of(store: Store, key: str) -> bytes:
    pieces: list[bytes] = []
    store.read(key, sink=lambda piece: pieces.append(bytes(piece)))
    return b"".join(pieces)


def _digests(directory: Path) -> set[bytes]:
    return {hashlib.blake2b(file.content).digest() for file in read_tree(directory).values()}


def _difference(expected: Mapping[str, bytes], found: Mapping[str, bytes]) -> str:
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    other = {
        path: (expected[path][:30], found[path][:30])
        for path in sorted(expected.keys() & found.keys())
        if expected[path] != found[path]
    }
    return f"missing {missing}, too many {extra}, not as committed (wanted, found) {other}"
