"""Note which finished checkpoints are not stored yet, for the next attempt on the same disk.

The journal `.holdfast/unsent.jsonl` is written before a checkpoint is sent, so that it is there whatever ends the
process, and removed when everything is committed. `recover` finds what the next attempt goes on with.
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
from holdfast.local.groups import Unit
from holdfast.local.journal import Journal, JournalError
from holdfast.local.scan import FileState, Scan

_LOG = logging.getLogger(__name__)
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NOTE_EVERY = 1.0  # seconds between two notes of what has been brought to the disk


@dataclass(frozen=True, slots=True)
class UnsentNote:
    """What is kept or replaced as a whole: a directory, or files at the top level that belong together.

    Attributes:
        states: of all its files.
        changed: paths of those that the last snapshot does not have so.
        durable: all of them are on the disk, and survive a loss of power.
    """

    states: tuple[FileState, ...]
    changed: frozenset[str]
    durable: bool = False

    @property
    def checkpoints(self) -> frozenset[str]:
        """The names of its checkpoints. It has all files of each."""
        return frozenset(state.checkpoint for state in self.states)


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """Who noted something, when and where.

    `after` names the newest record that the attempt had committed, or started from; empty: there was none. `boot` is
    the id of this start of the machine; empty: the kernel has none.
    """

    attempt: int
    token: str
    after: str
    store: str = ""
    boot: str = ""


class Unsent:
    """The journal of one checkpoint directory. It may be written from several threads.

    Args:
        directory: the checkpoint directory.
        store: the store's URI. What was to go to another store is not gone on with.
        workers: bring files to the disk. Never those of the transfers, which would wait for the disk meanwhile.
    """

    def __init__(self, directory: Path, store: str, *, workers: Executor) -> None:
        self.directory, self.store = directory, store
        self.noted: tuple[UnsentNote, ...] = ()
        """What this attempt has noted last, or goes on with."""
        self._workers = workers
        self._journal = Journal(directory / names.OWN_DIRECTORY / "unsent.jsonl")
        self._lock = threading.Lock()
        self._turn = 0  # counts what was noted

    def note(self, life: Life, scan: Scan, units: Iterable[Unit], *, at_rest: bool) -> None:
        """Replace what is noted. Where that cannot be written, these files are conflicts for the next attempt.

        Args:
            life: this attempt.
            scan: the directory.
            units: finished, and not in a snapshot yet.
            at_rest: the script has ended: bring the files to the disk meanwhile, by which they count even if the
                machine dies. Else that is left to the kernel.
        """
        files, hidden = scan.by_checkpoint(), set(map(names.checkpoint_of, scan.unreadable))
        with self._lock, contextlib.suppress(OSError):
            self._turn += 1
            durable = {note.states for note in self.noted if note.durable}
            noted = []
            for unit in units:
                checkpoints = dict.fromkeys(state.checkpoint for state in unit.states)
                if hidden.isdisjoint(checkpoints):
                    states = tuple(state for name in checkpoints for state in files.get(name, ()))
                    noted.append(UnsentNote(states, frozenset(unit.paths), states in durable))
            self.noted = tuple(noted)
            if noted:
                lines = [{"files": [astuple(s) for s in it.states], "changed": sorted(it.changed)} for it in noted]
                header = asdict(replace(life, store=self.store, boot=boot_id()))
                self._journal.begin(header, [*lines, _on_disk(it for it in noted if it.durable)], durable=at_rest)
            else:
                self._journal.remove()
        if at_rest and not all(note.durable for note in self.noted):
            with contextlib.suppress(RuntimeError):  # no thread may be started: the kernel does it in its own time
                self._workers.submit(self._bring_to_disk, self._turn)

    def read(self) -> tuple[Life, list[UnsentNote]] | None:
        """Return what an earlier attempt has noted here; None where there is nothing, or nothing that can be read."""
        try:
            return self._journal.read(_parse)
        except JournalError as error:
            _LOG.warning("%s cannot be read, the checkpoints that it names are not used: %s", self._journal.file, error)
            return None

    def _bring_to_disk(self, turn: int) -> None:
        """Bring what is noted to the disk and note that, now and then on the way, until other things are noted."""
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
                done = {
                    id(it): replace(it, durable=True) for it in self.noted if not it.durable and it.states in brought
                }
                self.noted = tuple(done.get(id(it), it) for it in self.noted)
                self._journal.append(_on_disk(done.values()), durable=True)


def boot_id() -> str:
    """Return what tells this start of the machine from any other; empty where the kernel does not say."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def _on_disk(notes: Iterable[UnsentNote]) -> dict[str, list[str]]:
    return {"durable": sorted(name for note in notes for name in note.checkpoints)}


def _parse(header: dict[str, Any], lines: list[dict[str, Any]]) -> tuple[Life, list[UnsentNote]]:
    durable = {name for line in lines for name in line.get("durable", ())}
    noted = []
    for line in lines:
        if line.get("files"):
            note = UnsentNote(tuple(FileState(*state) for state in line["files"]), frozenset(line["changed"]))
            noted.append(replace(note, durable=note.checkpoints <= durable))
    return Life(**header), noted
