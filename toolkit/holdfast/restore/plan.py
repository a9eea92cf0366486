"""Wanted: what of a snapshot is fetched before the script starts, what arrives behind it, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from holdfast import names
from holdfast.names import may_be_checkpoint, rank
from holdfast.snapshot.record import FileEntry
from holdfast.transfer import part_checksums
from holdfast.transfer.part_checksums import Grid


def from_entry(entry: FileEntry) -> PlannedFile:
    """Return what is to be fetched for a file of a snapshot."""
    return PlannedFile(
        entry.path,
        entry.size,
        entry.mtime_ns,
        entry.mode,
        entry.crc64nvme,
        entry.key,
        entry.etag,
        entry.preserved,
        entry.parts,
    )


TOGETHER = 5_000_000_000
"""Nanoseconds: files at the top level that were written so close to each other belong together, as weights and their
JSON do."""
SMALL = 1 << 20
"""A top-level entry of at most so many bytes is worth no waiting: it comes before the script starts."""


class Mode(StrEnum):
    """How much of the newest snapshot is restored."""

    ALL = "all"  # everything, before the script starts
    LATEST = "latest"  # the newest checkpoint before the script starts, the older ones behind it
    NONE = "none"  # nothing: it stays in the store, and in the snapshots that follow


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file to fetch, as FileEntry; the checksums of a foreign one are not known before.

    Where `preserved` names a key, the content lies there when it is no longer at `key`.
    """

    path: str
    size: int
    mtime_ns: int
    mode: int
    crc64nvme: int | None
    key: str
    etag: str
    preserved: str | None = None
    parts: str | None = None

    @property
    def grid(self) -> Grid | None:
        """The checksums of its parts, where they are known: what is there by halves need not be fetched again."""
        try:
            return None if self.parts is None else part_checksums.from_text(self.parts, size=self.size)
        except ValueError:  # of another version: a hint only
            return None

    def as_entry(self, crc64nvme: int) -> FileEntry:
        """Return the file as a record names it, now that its checksum is known."""
        return FileEntry(
            path=self.path,
            size=self.size,
            mtime_ns=self.mtime_ns,
            mode=self.mode,
            crc64nvme=crc64nvme,
            key=self.key,
            etag=self.etag,
        )


@dataclass(frozen=True, slots=True)
class PlannedCheckpoint:
    """A checkpoint to fetch, which comes as a whole: a file at the top level, or all of a directory.

    Attributes:
        name: of the top-level entry.
        files: by path.
        size: bytes of all of them.
        modified: of the newest of them, nanoseconds since the epoch.
    """

    name: str
    files: Mapping[str, PlannedFile]
    size: int
    modified: int

    @property
    def is_file(self) -> bool:
        """Whether it is a single file at the top level."""
        return self.name in self.files


def units(wanted: Iterable[PlannedFile]) -> list[PlannedCheckpoint]:
    """Sort files into checkpoints, the newest first."""
    groups: dict[str, dict[str, PlannedFile]] = {}
    for file in wanted:
        groups.setdefault(names.checkpoint_of(file.path), {})[file.path] = file
    found = [
        PlannedCheckpoint(
            name,
            files,
            sum(file.size for file in files.values()),
            max(file.mtime_ns for file in files.values()),
        )
        for name, files in groups.items()
    ]
    return sorted(found, key=lambda unit: (-unit.modified, unit.name))


def newest(found: Iterable[PlannedCheckpoint]) -> PlannedCheckpoint | None:
    """Return what `holdfast.latest()` takes when all of it is there; None when that is nothing."""
    candidates = [unit for unit in found if _may_be_newest(unit)]
    return max(candidates, key=lambda unit: rank(unit.name, unit.modified), default=None)


def split(wanted: Iterable[PlannedFile], mode: Mode) -> tuple[list[PlannedCheckpoint], list[PlannedCheckpoint]]:
    """Return what is fetched before the script starts, and what is not, each newest first.

    With `Mode.LATEST` that is the newest checkpoint, and what a script reads or goes on with beside it: the files at
    the top level that were written within `TOGETHER` of it, logs and metrics, and whatever has no more than `SMALL`
    bytes.
    """
    every = units(wanted)
    if mode is not Mode.LATEST:
        return (every, []) if mode is Mode.ALL else ([], every)
    first = newest(every)
    if first is None:
        return every, []

    def is_needed(unit: PlannedCheckpoint) -> bool:
        beside = unit.is_file and abs(unit.modified - first.modified) <= TOGETHER
        return unit is first or beside or unit.size <= SMALL or not names.likeness(unit.name)

    return [unit for unit in every if is_needed(unit)], [unit for unit in every if not is_needed(unit)]


def _may_be_newest(unit: PlannedCheckpoint) -> bool:
    if not (names.likeness(unit.name) and may_be_checkpoint(unit.name)):
        return False
    return unit.size > 0 or not unit.is_file
