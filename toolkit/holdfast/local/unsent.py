"""Note which finished checkpoints are not stored yet, for the next attempt on the same disk.

The journal `.holdfast/unsent.jsonl` is written before a checkpoint is sent, so that it survives any end of the process,
and removed when everything is committed. `recover` finds what the next attempt continues with.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

from holdfast import names
from holdfast.fsync import fsync
from holdfast.local.groups import Group
from holdfast.local.journal import Journal, JournalError
from holdfast.local.scan import FileState, Scan

_LOG = logging.getLogger(__name__)
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NOTE_EVERY = 1.0  # seconds between two notes of what has been brought to the disk


@dataclass(frozen=True, slots=True)
class UnsentNote:
    """One or more unsent checkpoints that are kept or replaced together.

    Attributes:
        changed: paths of the files that differ from the last snapshot.
        durable: all files are on the disk, and survive a loss of power.
    """

    states: tuple[FileState, ...]
    changed: frozenset[str]
    durable: bool = False

    @property
    def checkpoints(self) -> frozenset[str]:
        """The names of the checkpoints."""
        return frozenset(state.checkpoint for state in self.states)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The attempt that noted, the store's URI, and the boot id of the machine (empty: the kernel has none).

    `after` names the newest record that the attempt had committed, or started from; empty: there was none.
    """

    attempt: int
    token: str
    after: str
    store: str = ""
    boot: str = ""


class Unsent:
    """The journal of one checkpoint directory, with the URI of its store. It may be written from several threads.

    Args:
        workers: fsync files. Never the workers of the transfers, which would wait for the disk meanwhile.
    """

    def __init__(self, directory: Path, store: str, *, workers: Executor) -> None:
        self.directory, self.store = directory, store
        self.noted: tuple[UnsentNote, ...] = ()
        """The notes of this attempt: those that it has recovered, until it writes its own."""
        self._workers = workers
        self._journal = Journal(directory / names.OWN_DIRECTORY / "unsent.jsonl")
        self._lock = threading.Lock()
        self._turn = 0  # counts calls of `note`

    def note(self, header: Header, scan: Scan, groups: Iterable[Group], *, ended: bool) -> None:
        """Replace the notes. Where that cannot be written, the next attempt treats the files as conflicts.

        Args:
            groups: files that are finished, and not in a snapshot yet.
            ended: the script has ended, so the files are brought to the disk, in another thread. While it runs, that
                is left to the kernel.
        """
        files, hidden = scan.by_checkpoint(), set(map(names.checkpoint_of, scan.unreadable))
        with self._lock, contextlib.suppress(OSError):
            self._turn += 1
            durable = {note.states for note in self.noted if note.durable}
            noted = []
            for group in groups:
                checkpoints = dict.fromkeys(state.checkpoint for state in group.states)
                if hidden.isdisjoint(checkpoints):
                    states = tuple(state for name in checkpoints for state in files.get(name, ()))
                    noted.append(UnsentNote(states, frozenset(group.paths), states in durable))
            self.noted = tuple(noted)
            if noted:
                on_disk = _on_disk(note for note in noted if note.durable)
                lines = [{"files": [*map(astuple, note.states)], "changed": sorted(note.changed)} for note in noted]
                header = replace(header, store=self.store, boot=boot_id())
                self._journal.begin(asdict(header), [*lines, on_disk], durable=ended)
            else:
                self._journal.remove()
        if ended and not all(note.durable for note in self.noted):
            with contextlib.suppress(RuntimeError):  # no thread may be started: it is left to the kernel
                self._workers.submit(self._bring_to_disk, self._turn)

    def read(self) -> tuple[Header, list[UnsentNote]] | None:
        """Return what an earlier attempt has noted; None where there is no note, or none that can be read."""
        try:
            return self._journal.read(_parse)
        except JournalError as error:
            _LOG.warning("%s cannot be read, the checkpoints that it names are not used: %s", self._journal.file, error)
            return None

    def _bring_to_disk(self, turn: int) -> None:
        """Bring the noted files to the disk, and note that once a second, until the notes are replaced."""
        todo = [note for note in reversed(self.noted) if not note.durable]
        while todo and self._turn == turn:
            folders, brought, over = set[Path](), set[tuple[FileState, ...]](), time.monotonic() + _NOTE_EVERY
            while todo and self._turn == turn and time.monotonic() < over:
                states = todo.pop().states
                with contextlib.suppress(OSError):
                    for path in (self.directory / state.path for state in states):
                        fsync(path)
                        folders.update(folder for folder in path.parents if folder.is_relative_to(self.directory))
                    brought.add(states)
            with self._lock, contextlib.suppress(OSError):
                for folder in folders:
                    fsync(folder)
                self.noted = tuple(replace(note, durable=note.durable or note.states in brought) for note in self.noted)
                self._journal.append(_on_disk(note for note in self.noted if note.states in brought), durable=True)


def boot_id() -> str:
    """Return the id of this start of the machine; empty where the kernel has none."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def _on_disk(notes: Iterable[UnsentNote]) -> dict[str, list[str]]:
    return {"durable": sorted(name for note in notes for name in note.checkpoints)}


def _parse(header: dict[str, Any], lines: list[dict[str, Any]]) -> tuple[Header, list[UnsentNote]]:
    durable = {name for line in lines for name in line.get("durable", ())}
    noted = []
    for line in lines:
        if line.get("files"):
            note = UnsentNote(tuple(FileState(*state) for state in line["files"]), frozenset(line["changed"]))
            noted.append(replace(note, durable=note.checkpoints <= durable))
    return Header(**header), noted
