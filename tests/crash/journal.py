"""What is known of a world beside its store: who claimed, what was committed, and what of it is durable.

A file, since a life may be a process that is killed: its last word is what it had written by then.
"""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.crash.fuse import Struck


@dataclass(frozen=True, slots=True)
class File:
    """One file of a directory.

    Attributes:
        content: its bytes.
        mtime_ns: its modification time.
    """

    content: bytes
    mtime_ns: int


Tree = Mapping[str, File]
"""A directory: path → file."""


_ALL = 1_000_000


@dataclass(frozen=True, slots=True)
class Commit:
    """A record whose put began.

    Attributes:
        name: such as `000002-000007`.
        tree: what the checkpoint directory was, by the harness's own reading of it.
        adopted: the foreign files that had been taken in by then.
        durable: the answer to the put has come.
        complete: nothing was held back.
    """

    name: str
    tree: Tree
    adopted: frozenset[str]
    durable: bool = False
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Claimed:
    """An attempt's number was given to a life."""

    number: int


@dataclass(frozen=True, slots=True)
class TookOver:
    """An attempt goes on from a commit: no attempt before it can commit anything behind that.

    Attributes:
        number: the attempt.
        base: the name of the commit; empty: there is none.
        keeps: how many of the newest commits it keeps; None: all.
    """

    number: int
    base: str
    keeps: int | None


@dataclass(frozen=True, slots=True)
class Durable:
    """The answer to the put of a record has come."""

    name: str


@dataclass(frozen=True, slots=True)
class Died:
    """A life is about to be ended at an operation."""

    struck: Struck
    process: bool


@dataclass(frozen=True, slots=True)
class Owes:
    """A machine holds these contents (their digests), and a restore is about to touch them."""

    machine: Path
    contents: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Paid:
    """The restore is over, and nothing of that was lost."""

    machine: Path


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must never be."""

    text: str


@dataclass(frozen=True, slots=True)
class Left:
    """What was finished on a machine when the last flush of a life began, whatever of it is committed then.

    Attributes:
        machine: its checkpoint directory.
        attempt: of the life.
        base: the name of the commit from which it went on; empty: there was none.
        tree: the checkpoints that were not being written.
    """

    machine: Path
    attempt: int
    base: str
    tree: Tree

    def is_newest(self, name: str) -> bool:
        """Return whether no other attempt has committed after this life, where that is the newest commit."""
        return name == self.base or name.startswith(f"{self.attempt:06d}-")


Note = Commit | Claimed | TookOver | Durable | Died | Owes | Paid | Left | Violation


@dataclass
class Journal:
    """The notes of all lives of one world, in a file and applied.

    Args:
        path: of the file.

    Attributes:
        kept: how many of the newest commits are kept at least, by the retention of those who have lived.
    """

    path: Path
    commits: dict[str, Commit] = field(default_factory=dict)
    claims: list[int] = field(default_factory=list)
    successions: list[TookOver] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    deaths: list[Died] = field(default_factory=list)
    kept: int = _ALL
    owed: dict[Path, frozenset[bytes]] = field(default_factory=dict)
    left: dict[Path, Left] = field(default_factory=dict)
    _offset: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def note(self, note: Note) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, pickle.dumps(note))
        finally:
            os.close(descriptor)
        self.refresh()

    def refresh(self) -> None:
        """Apply what was noted since, by other processes too."""
        # Counted is io.open, not this one.
        with self._lock, open(self.path, "rb") as file:  # noqa: PTH123
            file.seek(self._offset)
            while file.peek(1):
                self._apply(pickle.load(file))
            self._offset = file.tell()

    def _apply(self, note: Note) -> None:
        match note:
            case Commit() | Durable() | TookOver():
                self._apply_commit(note)
            case Claimed():
                if note.number in self.claims:
                    self.violations.append(f"attempt {note.number} was claimed twice")
                self.claims.append(note.number)
            case Violation():
                self.violations.append(note.text)
            case Died():
                self.deaths.append(note)
            case Owes():
                self.owed[note.machine] = self.owed.get(note.machine, frozenset()) | note.contents
            case Paid():
                self.owed.pop(note.machine, None)
            case Left():
                self.left[note.machine] = note

    def _apply_commit(self, note: Commit | Durable | TookOver) -> None:
        match note:
            case Commit():
                # Who was refused may try again.
                if note.name in self.commits and self.commits[note.name].durable:
                    self.violations.append(f"record {note.name} was put twice")
                self.commits[note.name] = note
            case Durable():
                self._refuse_late(note.name)
                self.commits[note.name] = replace(self.commits[note.name], durable=True)
            case TookOver():
                self.successions.append(note)
                self.kept = min(self.kept, note.keeps or self.kept)

    def _refuse_late(self, name: str) -> None:
        """A commit that was answered must not lie behind the one from which a later attempt has gone on."""
        for succession in self.successions:
            if succession.base < name and int(name.partition("-")[0]) < succession.number:
                self.violations.append(f"LOST: {name} was committed after attempt {succession.number} had taken over")

    def counting(self, names: Iterable[str]) -> list[str]:
        """Return those names that a retention counts: no step of a flush behind which there is a complete snapshot."""
        ordered = sorted(names)
        if self.kept == _ALL:
            return ordered
        complete = [name for name in ordered if self.commits[name].complete]
        return [name for name in ordered if self.commits[name].complete or name > max(complete, default="")]

    @property
    def newest_durable(self) -> str:
        """The newest name whose commit was answered; empty: none was."""
        return max((name for name, commit in self.commits.items() if commit.durable), default="")


def read_tree(directory: Path) -> dict[str, File]:
    """Read a checkpoint directory, without what is holdfast's own in it."""
    tree: dict[str, File] = {}
    for folder, names, files in os.walk(directory):
        if folder == str(directory) and ".holdfast" in names:
            names.remove(".holdfast")
        for name in files:
            path = os.path.join(folder, name)  # noqa: PTH118  this is run very often
            with open(path, "rb") as file:  # noqa: PTH123
                status = os.fstat(file.fileno())
                tree[os.path.relpath(path, directory)] = File(file.read(), status.st_mtime_ns)
    return tree
