"""Plan a restore: which files of a snapshot are fetched before the script starts, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from holdfast import names
from holdfast.local.scan import FileState
from holdfast.snapshot.record import FileEntry

TOGETHER = 5_000_000_000
"""Nanoseconds between the times of top-level files that belong together, as weights and their JSON do."""
SMALL = 1 << 20
"""Bytes of a checkpoint that is never deferred."""
UNKNOWN = -1
"""The checksum of a planned file of another writer, until it has been fetched."""


class Mode(StrEnum):
    """How much of the newest snapshot is restored."""

    ALL = "all"  # everything, before the script starts
    LATEST = "latest"  # the newest checkpoint before the script starts, the older ones while it runs
    NONE = "none"  # nothing: the files stay in the store, and in the snapshots that follow


@dataclass(frozen=True, slots=True)
class PlannedCheckpoint:
    """A checkpoint to fetch, which is placed as a whole. `modified` is the time of its newest file, in nanoseconds."""

    name: str
    files: Mapping[str, FileEntry]
    size: int
    modified: int

    @property
    def is_file(self) -> bool:
        """Whether it is a single file at the top level."""
        return self.name in self.files


def by_checkpoint(files: Iterable[FileEntry]) -> list[PlannedCheckpoint]:
    """Return the checkpoints of files, the newest first."""
    groups: dict[str, dict[str, FileEntry]] = {}
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
    candidates = [
        checkpoint
        for checkpoint in found
        if names.likeness(checkpoint.name) and names.may_be_checkpoint(checkpoint.name)
        if checkpoint.size > 0 or not checkpoint.is_file
    ]
    return max(candidates, key=lambda checkpoint: names.rank(checkpoint.name, checkpoint.modified), default=None)


def split(files: Iterable[FileEntry], mode: Mode) -> tuple[list[PlannedCheckpoint], list[PlannedCheckpoint]]:
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


def is_like(state: FileState | None, file: FileEntry | None) -> bool:
    """Return whether a file on the disk has the size and time of a planned one."""
    return state is not None and file is not None and (state.size, state.mtime_ns) == (file.size, file.mtime_ns)
