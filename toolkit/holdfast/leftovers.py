"""Leftovers: checkpoints that a life had finished and could not send in time, noted for the next one on its directory.

The note is `.holdfast/unsent.json` of the checkpoint directory. It is written before what is finished is sent, so
that it is there whatever ends the process, and goes when nothing is left. It counts only while nobody has committed
since, and only for files that nobody has touched since.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

from holdfast import disk, names
from holdfast.disk import FileState, Scan
from holdfast.record import FileEntry, Snapshot
from holdfast.units import Unit

_FORMAT = 1
_CONTENT_BUDGET = 16 << 20
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Leftover:
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

    @property
    def label(self) -> str:
        """Its checkpoints, for the log."""
        return ", ".join(map(repr, sorted(self.checkpoints)))


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


class Leftovers:
    """The note of one checkpoint directory. It may be written from several threads.

    Args:
        directory: the checkpoint directory.
        place: the store's URI: what is to go to another one is no leftover here.
    """

    def __init__(self, directory: Path, place: str) -> None:
        self._directory = directory
        self._place = place
        self._own = directory / names.OWN_DIRECTORY
        self._file = self._own / "unsent.json"
        self._lock = threading.Lock()
        self._noted: tuple[Leftover, ...] = ()

    @property
    def noted(self) -> tuple[Leftover, ...]:
        """What is noted by this life."""
        return self._noted

    def note(self, life: Life, scan: Scan, units: Iterable[Unit], workers: Executor | None) -> None:
        """Note what is yet to be sent; nothing: there are no leftovers.

        Where it cannot be written, the next life takes these files for what they are without it: in the way.

        Args:
            life: this one.
            scan: the directory.
            units: finished, and not in a snapshot yet.
            workers: bring the files to the disk meanwhile, by which they count even if the machine dies. None: that is
                left to the kernel, as the script may be at work.
        """
        durable = {leftover.states for leftover in self._noted if leftover.durable}
        noted = tuple(_leftover(unit, scan, durable) for unit in units if not _has_unreadable(unit, scan))
        with self._lock, contextlib.suppress(OSError):
            self._noted = noted
            self._write(life, durable=workers is not None)
        for leftover in noted:
            if workers is not None and not leftover.durable:
                workers.submit(self._bring_to_disk, life, leftover)

    def find(
        self, newest: Snapshot | None, attempts: Iterable[int], recorded: Mapping[str, FileEntry]
    ) -> tuple[int, list[Leftover], dict[str, str]]:
        """Look for what can be gone on with.

        Args:
            newest: the newest record of the only host; None: there is none.
            attempts: the numbers that were claimed.
            recorded: the files of that record, by path.

        Returns:
            The attempt that left them, those that are as they were, and for the others that are still there why they
            are not gone on with.
        """
        try:
            life, place, boot, noted = _read(self._file)
        except FileNotFoundError:
            return 0, [], {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return 0, [], {self._file.name: f"the note cannot be read: {error!r}"}
        scan = disk.scan(self._directory)
        went_on = newest is not None and newest.name != life.after
        there = [it for it in noted if _is_untouched(it, scan) and not (went_on and _is_stored(it, recorded))]
        refused: dict[str, str] = {}
        if place != self._place:
            refused = {it.label: f"it was to go to {place}" for it in there}
        elif life.attempt not in attempts or not life.is_last(newest):
            refused = {it.label: "somebody has committed since" for it in there}
        elif boot != boot_id() or not boot:
            why = "the machine was started anew before it was known to be on the disk"
            refused = {it.label: why for it in there if not it.durable}
        kept = [it for it in there if it.label not in refused]
        beside = [path for path in recorded if path in scan.files and "/" not in path]
        while unfit := self._linked(kept) or self._cut(kept, beside):  # what is left out may be needed by another
            refused |= unfit
            kept = [it for it in kept if it.label not in unfit]
        self._noted = tuple(kept)
        return life.attempt, kept, refused

    def _linked(self, kept: Collection[Leftover]) -> dict[str, str]:
        """Return of what links lead out of all that is kept: a restore may replace what they lead to."""
        root = self._directory.resolve()
        inside = {root / state.path for it in kept for state in it.states}
        return {
            it.label: f"{state.path} is a link to what is not kept"
            for it in kept
            for state in it.states
            if (self._directory / state.path).resolve() not in inside
        }

    def _cut(self, kept: Collection[Leftover], recorded: Iterable[str]) -> dict[str, str]:
        """Return what is provably not whole, and why: nobody had looked at it yet when it was noted."""
        from holdfast import probes  # noqa: PLC0415  as in storing.py

        beside = {*recorded, *(path for it in kept for path in it.changed if "/" not in path)}
        found: dict[str, str] = {}
        for leftover in kept:
            paths = [state.path for state in leftover.states]
            group = paths if "/" in paths[0] else sorted(beside | set(paths))
            try:
                reasons = probes.probe_checkpoint(self._directory, group)
                for path in sorted(leftover.changed):
                    finding = probes.probe(self._directory / path, content_budget=_CONTENT_BUDGET)
                    if finding.verdict is probes.Verdict.CUT:
                        reasons[path] = finding.reason
            except OSError as error:
                reasons = {paths[0]: str(error)}
            why = [f"{path} is not whole: {reason}" for path, reason in reasons.items() if path in paths]
            found |= {leftover.label: why[0]} if why else {}
        return found

    def _bring_to_disk(self, life: Life, leftover: Leftover) -> None:
        with contextlib.suppress(OSError):
            for state in leftover.states:
                _fsync(self._directory / state.path)
            folders = {parent for state in leftover.states for parent in (self._directory / state.path).parents}
            for folder in folders:
                if folder.is_relative_to(self._directory):
                    _fsync(folder)
            with self._lock:
                if leftover in self._noted:
                    done = replace(leftover, durable=True)
                    self._noted = tuple(done if it == leftover else it for it in self._noted)
                    self._write(life, durable=True)

    def _write(self, life: Life, *, durable: bool) -> None:
        if not self._noted:
            self._file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self._own.rmdir()  # only when it is empty
            return
        value = {
            "format": _FORMAT,
            "store": self._place,
            "attempt": life.attempt,
            "token": life.token,
            "after": life.after,
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
            _fsync(beside)
        beside.replace(self._file)
        if durable:
            _fsync(self._own)


def boot_id() -> str:
    """Return what tells this start of the machine from any other; empty where the kernel does not say."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def _leftover(unit: Unit, scan: Scan, durable: set[tuple[FileState, ...]]) -> Leftover:
    checkpoints = {state.checkpoint for state in unit.states}
    states = tuple(state for state in scan.files.values() if state.checkpoint in checkpoints)
    return Leftover(states, frozenset(unit.paths), states in durable)


def _is_untouched(leftover: Leftover, scan: Scan) -> bool:
    """Say whether all of it is as it was, and nothing was added."""
    there = {path: state for path, state in scan.files.items() if state.checkpoint in leftover.checkpoints}
    return there == {state.path: state for state in leftover.states}


def _has_unreadable(unit: Unit, scan: Scan) -> bool:
    hidden = set(map(names.checkpoint_of, scan.unreadable))
    return any(state.checkpoint in hidden for state in unit.states)


def _is_stored(leftover: Leftover, recorded: Mapping[str, FileEntry]) -> bool:
    """Say whether a record of the same life has all of it: it is restored as everything else, by its content."""
    known = {path: (entry.size, entry.mtime_ns) for path, entry in recorded.items()}
    return all(known.get(state.path) == (state.size, state.mtime_ns) for state in leftover.states)


def _read(file: Path) -> tuple[Life, str, str, list[Leftover]]:
    value: dict[str, Any] = json.loads(file.read_bytes())
    if value["format"] != _FORMAT:
        raise ValueError(f"its format is {value['format']!r}")
    life = Life(int(value["attempt"]), str(value["token"]), str(value["after"]))
    noted = [
        Leftover(tuple(FileState(*state) for state in it["files"]), frozenset(it["changed"]), it["durable"] is True)
        for it in value["unsent"]
    ]
    return life, str(value["store"]), str(value["boot"]), [it for it in noted if it.states]


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
