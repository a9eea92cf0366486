"""Leftovers: checkpoints that a life had finished and could not send in time, noted for the next one on its directory.

The note is `.holdfast/unsent.json` of the checkpoint directory. It is written before what is finished is sent, so
that it is there whatever ends the process, and goes when nothing is left. It counts only while nobody has committed
since, and only for files that nobody has touched since.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

from holdfast import names
from holdfast.fsync import fsync
from holdfast.local import scan as disk
from holdfast.local.groups import Unit
from holdfast.local.scan import FileState, Scan
from holdfast.snapshot.record import FileEntry, Snapshot

_LOG = logging.getLogger(__name__)

_FORMAT = 1
_CONTENT_BUDGET = 16 << 20
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_WRITE_EVERY = 1.0  # seconds between two notes of what has come to the disk, at least …
_WRITE_SHARE = 0.1  # … and as many more as it takes for writing them to need no more than this share of the time


@dataclass(frozen=True, slots=True)
class UnsentNote:
    """What is kept or replaced as a whole: a directory, or files at the top level that belong together.

    Attributes:
        states: how all of its files looked.
        changed: paths of those that the last snapshot does not have so.
        durable: all of them are on the disk, and would survive the loss of power.
    """

    states: tuple[FileState, ...]
    changed: frozenset[str]
    durable: bool = False

    @property
    def checkpoints(self) -> frozenset[str]:
        """The names of its checkpoints: all that lies under them is this."""
        return frozenset(state.checkpoint for state in self.states)


@dataclass(frozen=True, slots=True)
class Life:
    """Whose leftovers they are.

    Attributes:
        attempt: its number.
        token: of the attempt.
        after: the last record that it had committed, or went on from, when they were noted; empty: there was none.
    """

    attempt: int
    token: str
    after: str

    def is_last(self, newest: Snapshot | None) -> bool:
        """Say whether nobody has committed behind this life."""
        if newest is None or newest.name == self.after:
            return self.after == (newest.name if newest else "")
        return (newest.attempt, newest.token) == (self.attempt, self.token)


class Unsent:
    """The note of one checkpoint directory. It may be written from several threads.

    Args:
        directory: the checkpoint directory.
        place: the store's URI: what is to go to another one is no leftover here.
        workers: bring files to the disk. Never those of the transfers: they would wait for the disk instead of sending.
    """

    def __init__(self, directory: Path, place: str, *, workers: Executor) -> None:
        self._directory = directory
        self._place = place
        self._workers = workers
        self._own = directory / names.OWN_DIRECTORY
        self._file = self._own / "unsent.json"
        self._lock = threading.Lock()
        self._noted: tuple[UnsentNote, ...] = ()
        self._life = Life(0, "", "")
        self._turn = 0  # counts what was noted

    @property
    def noted(self) -> tuple[UnsentNote, ...]:
        """What is noted by this life."""
        return self._noted

    def note(self, life: Life, scan: Scan, units: Iterable[Unit], *, at_rest: bool) -> None:
        """Note what is yet to be sent; nothing: there are no leftovers.

        Where it cannot be written, the next life takes these files for what they are without it: in the way.

        Args:
            life: this one.
            scan: the directory.
            units: finished, and not in a snapshot yet.
            at_rest: bring the files to the disk meanwhile, by which they count even if the machine dies. Else that is
                left to the kernel, as the script may be at work.
        """
        groups = _by_checkpoint(scan)
        hidden = set(map(names.checkpoint_of, scan.unreadable))
        visible = [unit for unit in units if hidden.isdisjoint(map(names.checkpoint_of, unit.paths))]
        with self._lock, contextlib.suppress(OSError):
            self._turn += 1
            durable = {it.states for it in self._noted if it.durable}
            self._noted = tuple(_leftover(unit, groups, durable) for unit in visible)
            self._life = life
            self._write(durable=at_rest)
        if at_rest and not all(it.durable for it in self._noted):
            with contextlib.suppress(RuntimeError):  # no thread may be started: the kernel does it in its own time
                self._workers.submit(self._bring_to_disk, self._turn)

    def find(
        self, newest: Snapshot | None, attempts: Iterable[int], recorded: Mapping[str, FileEntry]
    ) -> tuple[int, list[UnsentNote], dict[str, str]]:
        """Look for what can be gone on with.

        Args:
            newest: the newest record of the only host; None: there is none.
            attempts: the numbers that were claimed.
            recorded: the files of that record, by path.

        Returns:
            The attempt that left them, those that are as they were, and checkpoint → why it is not gone on with, though
            it is still there.
        """
        try:
            life, place, boot, noted = _read(self._file)
        except FileNotFoundError:
            return 0, [], {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _LOG.warning("%s cannot be read, the checkpoints that it names are not used: %r", self._file, error)
            return 0, [], {}
        groups = _by_checkpoint(scan := disk.scan(self._directory))
        went_on = newest is not None and newest.name != life.after
        known = {(it.path, it.size, it.mtime_ns) for it in recorded.values()} if went_on else set()
        there = [it for it in noted if _is_untouched(it, groups) and not _is_stored(it, known)]
        refused: dict[str, str] = {}
        if place != self._place:
            refused = _all_of(there, f"it belongs to {place}")
        elif life.attempt not in attempts or not life.is_last(newest):
            refused = _all_of(there, "another attempt has committed since")
        elif boot != boot_id() or not boot:
            why = "the machine restarted before it was known to be on the disk"
            refused = _all_of([it for it in there if not it.durable], why)
        kept = [it for it in there if it.checkpoints.isdisjoint(refused)]
        beside = [path for path in recorded if path in scan.files and "/" not in path]
        while unfit := self._linked(kept) or self._cut(kept, beside):  # what is left out may be needed by another
            refused |= unfit
            kept = [it for it in kept if it.checkpoints.isdisjoint(unfit)]
        self._noted = tuple(kept)
        return life.attempt, kept, refused

    def _linked(self, kept: Collection[UnsentNote]) -> dict[str, str]:
        """Return of what links lead out of all that is kept: a restore may replace what they lead to."""
        root = self._directory.resolve()
        inside = {root / state.path for it in kept for state in it.states}
        found: dict[str, str] = {}
        for leftover in kept:
            for state in leftover.states:
                if (self._directory / state.path).resolve() not in inside:
                    found |= _all_of([leftover], f"{state.path} is a link to a file that is not kept")
        return found

    def _cut(self, kept: Collection[UnsentNote], recorded: Iterable[str]) -> dict[str, str]:
        """Return what is provably not whole, and why: nobody had looked at it yet when it was noted."""
        from holdfast import probes  # noqa: PLC0415  as in storing.py

        top = {*recorded, *(state.path for it in kept for state in it.states if "/" not in state.path)}
        reasons = self._probed(sorted(top))
        found: dict[str, str] = {}
        for leftover in kept:
            paths = {state.path for state in leftover.states}
            if not paths <= top:
                reasons |= self._probed(sorted(paths))
            for path in leftover.changed - reasons.keys():
                try:
                    finding = probes.probe(self._directory / path, content_budget=_CONTENT_BUDGET)
                except OSError as error:
                    reasons[path] = str(error)
                else:
                    if finding.verdict is probes.Verdict.CUT:
                        reasons[path] = finding.reason
            for path in sorted(paths & reasons.keys()):
                found |= _all_of([leftover], f"{path} is not whole: {reasons[path]}")
        return found

    def _probed(self, paths: Sequence[str]) -> dict[str, str]:
        """Return which files of a checkpoint, or of the top level, show that it is not whole, and why."""
        from holdfast import probes  # noqa: PLC0415  as in storing.py

        try:
            return probes.probe_checkpoint(self._directory, paths)
        except OSError as error:
            return dict.fromkeys(paths, str(error))

    def _bring_to_disk(self, turn: int) -> None:
        """Bring what is noted to the disk and note that, now and then on the way, until other things are noted."""
        folders, brought, write_at = set[Path](), set[tuple[FileState, ...]](), time.monotonic() + _WRITE_EVERY
        todo = [it for it in self._noted if not it.durable]
        for leftover in todo:
            with contextlib.suppress(OSError):
                for state in leftover.states:
                    path = self._directory / state.path
                    fsync(path)
                    folders.update(it for it in path.parents if it.is_relative_to(self._directory))
                brought.add(leftover.states)
            if time.monotonic() < write_at and leftover is not todo[-1] and self._turn == turn:
                continue
            began = time.monotonic()
            with self._lock, contextlib.suppress(OSError):
                for folder in folders:
                    fsync(folder)
                folders.clear()
                self._noted = tuple(replace(it, durable=it.durable or it.states in brought) for it in self._noted)
                self._write(durable=True)
            if self._turn != turn:
                return  # another job does what is left
            write_at = (now := time.monotonic()) + max(_WRITE_EVERY, (now - began) / _WRITE_SHARE)

    def _write(self, *, durable: bool) -> None:
        if not self._noted:
            self._file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self._own.rmdir()  # only when it is empty
            return
        value = {
            "format": _FORMAT,
            "store": self._place,
            "attempt": self._life.attempt,
            "token": self._life.token,
            "after": self._life.after,
            "boot": boot_id(),
            "unsent": [
                {"files": [astuple(it) for it in leftover.states], "changed": sorted(leftover.changed),
                 "durable": leftover.durable}
                for leftover in self._noted
            ],
        }  # fmt: skip
        self._own.mkdir(exist_ok=True)
        beside = self._file.with_suffix(".tmp")
        beside.write_text(json.dumps(value))
        if durable:
            fsync(beside)
        beside.replace(self._file)
        if durable:
            fsync(self._own)


def boot_id() -> str:
    """Return what tells this start of the machine from any other; empty where the kernel does not say."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def _all_of(leftovers: Iterable[UnsentNote], reason: str) -> dict[str, str]:
    return {checkpoint: reason for it in leftovers for checkpoint in it.checkpoints}


def _by_checkpoint(scan: Scan) -> dict[str, list[FileState]]:
    groups: dict[str, list[FileState]] = {}
    for state in scan.files.values():
        groups.setdefault(state.checkpoint, []).append(state)
    return groups


def _leftover(
    unit: Unit, groups: Mapping[str, Iterable[FileState]], durable: Collection[tuple[FileState, ...]]
) -> UnsentNote:
    checkpoints = dict.fromkeys(state.checkpoint for state in unit.states)
    states = tuple(state for name in checkpoints for state in groups.get(name, ()))
    return UnsentNote(states, frozenset(unit.paths), states in durable)


def _is_untouched(leftover: UnsentNote, groups: Mapping[str, Iterable[FileState]]) -> bool:
    """Say whether all of it is as it was, and nothing was added."""
    there = {state for name in leftover.checkpoints for state in groups.get(name, ())}
    return there == set(leftover.states)


def _is_stored(leftover: UnsentNote, known: Collection[tuple[str, int, int]]) -> bool:
    """Say whether a record of the same life has all of it: it is restored as everything else, by its content."""
    return all((state.path, state.size, state.mtime_ns) in known for state in leftover.states)


def _read(file: Path) -> tuple[Life, str, str, list[UnsentNote]]:
    value: dict[str, Any] = json.loads(file.read_bytes())
    if value["format"] != _FORMAT:
        raise ValueError(f"its format is {value['format']!r}")
    life = Life(int(value["attempt"]), str(value["token"]), str(value["after"]))
    noted = [
        UnsentNote(tuple(FileState(*state) for state in it["files"]), frozenset(it["changed"]), it["durable"] is True)
        for it in value["unsent"]
    ]
    return life, str(value["store"]), str(value["boot"]), [it for it in noted if it.states]
