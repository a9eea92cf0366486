"""Plan a restore: which files of a snapshot are fetched before the script starts, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from holdfast import names
from holdfast.names import may_be_checkpoint, rank
from holdfast.snapshot.record import FileEntry
from holdfast.transfer import part_checksums
from holdfast.transfer.part_checksums import Grid

TOGETHER = 5_000_000_000
"""Nanoseconds between the times of top-level files that belong together, as weights and their JSON do."""
SMALL = 1 << 20
"""Bytes of a checkpoint that is never deferred."""


class Mode(StrEnum):
    """How much of the newest snapshot is restored."""

    ALL = "all"  # everything, before the script starts
    LATEST = "latest"  # the newest checkpoint before the script starts, the older ones while it runs
    NONE = "none"  # nothing: the files stay in the store, and in the snapshots that follow


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """A file to fetch. The attributes are those of `FileEntry`; the checksum of a foreign file is not known before."""

    path: str
    size: int
    mtime_ns: int
    mode: int
    crc64nvme: int | None
    key: str
    etag: str
    parts: str | None = None

    @property
    def preserved(self) -> str | None:
        """As `FileEntry.preserved`; None for a foreign file."""
        return None if self.crc64nvme is None else self.as_entry(self.crc64nvme).preserved

    @property
    def grid(self) -> Grid | None:
        """The checksums of the parts, where they are known. With them an interrupted download is resumed."""
        try:
            return None if self.parts is None else part_checksums.from_text(self.parts, size=self.size)
        except ValueError:  # of another version: a hint only
            return None

    def as_entry(self, crc64nvme: int) -> FileEntry:
        """Return the entry of the file in a record, given its checksum."""
        return FileEntry(
            path=self.path, size=self.size, mtime_ns=self.mtime_ns, mode=self.mode, crc64nvme=crc64nvme,
            key=self.key, etag=self.etag,
        )  # fmt: skip


def from_entry(entry: FileEntry) -> PlannedFile:
    """Return the plan to fetch a file of a snapshot."""
    return PlannedFile(
        path=entry.path, size=entry.size, mtime_ns=entry.mtime_ns, mode=entry.mode, crc64nvme=entry.crc64nvme,
        key=entry.key, etag=entry.etag, parts=entry.parts,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class PlannedCheckpoint:
    """A checkpoint to fetch, which is placed as a whole.

    Attributes:
        name: name of the top-level entry.
        files: its files, by path.
        size: bytes of all files.
        modified: modification time of the newest file, nanoseconds since the epoch.
    """

    name: str
    files: Mapping[str, PlannedFile]
    size: int
    modified: int

    @property
    def is_file(self) -> bool:
        """Whether it is a single file at the top level."""
        return self.name in self.files


def by_checkpoint(files: Iterable[PlannedFile]) -> list[PlannedCheckpoint]:
    """Return the checkpoints of files, the newest first."""
    groups: dict[str, dict[str, PlannedFile]] = {}
    for file in files:
        groups.setdefault(names.checkpoint_of(file.path), {})[file.path] = file
    found = [
        PlannedCheckpoint(
            name, group, sum(file.size for file in group.values()), max(file.mtime_ns for file in group.values())
        )
        for name, group in groups.items()
    ]
    return sorted(found, key=lambda checkpoint: (-checkpoint.modified, checkpoint.name))


def newest(found: Iterable[PlannedCheckpoint]) -> PlannedCheckpoint | None:
    """Return the checkpoint that `holdfast.latest()` returns when all of them are restored; None if there is none."""
    candidates = [checkpoint for checkpoint in found if _may_be_newest(checkpoint)]
    return max(candidates, key=lambda checkpoint: rank(checkpoint.name, checkpoint.modified), default=None)


def split(files: Iterable[PlannedFile], mode: Mode) -> tuple[list[PlannedCheckpoint], list[PlannedCheckpoint]]:
    """Return the checkpoints to fetch before the script starts, and the deferred ones, each newest first.

    With `Mode.LATEST` the former are the newest checkpoint and what a script reads beside it: top-level files that were
    written within `TOGETHER` of it, logs and metrics, and everything of at most `SMALL` bytes.
    """
    every = by_checkpoint(files)
    if mode is not Mode.LATEST:
        return (every, []) if mode is Mode.ALL else ([], every)
    first = newest(every)
    if first is None:
        return every, []

    def is_needed(checkpoint: PlannedCheckpoint) -> bool:
        beside = checkpoint.is_file and abs(checkpoint.modified - first.modified) <= TOGETHER
        return checkpoint is first or beside or checkpoint.size <= SMALL or not names.likeness(checkpoint.name)

    now = [checkpoint for checkpoint in every if is_needed(checkpoint)]
    return now, [checkpoint for checkpoint in every if not is_needed(checkpoint)]


def _may_be_newest(checkpoint: PlannedCheckpoint) -> bool:
    if not (names.likeness(checkpoint.name) and may_be_checkpoint(checkpoint.name)):
        return False
    return checkpoint.size > 0 or not checkpoint.is_file
