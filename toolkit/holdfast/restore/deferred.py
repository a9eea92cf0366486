"""Track the deferred files: those of the newest snapshot that are restored later, or not at all.

They are neither deleted nor new, and stay in the snapshots that follow. A deferred checkpoint is placed as a whole, or
dropped if the script has made one of that name meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from holdfast.local.scan import FileState
from holdfast.names import checkpoint_of
from holdfast.snapshot.record import FileEntry


@dataclass(frozen=True, slots=True)
class Seen:
    """The files that a scan shows to be deferred no longer.

    Attributes:
        arrived: path → state of the placed file.
        adopted: path → entry of the foreign ones, which no snapshot has yet.
        replaced: paths that the script has replaced or deleted.
    """

    arrived: dict[str, FileState] = field(default_factory=dict)
    adopted: dict[str, FileEntry] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)


class Deferred:
    """The deferred files, at first all of `paths`. Safe for several threads: one restores them, another one scans."""

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        self._paths: dict[str, set[str]] = {}
        for path in paths:
            self._paths.setdefault(checkpoint_of(path), set()).add(path)
        self._coming: dict[str, tuple[Mapping[str, FileState], Mapping[str, FileEntry]]] = {}
        self._placed: set[str] = set()

    def __contains__(self, path: str) -> bool:
        return path in self._paths.get(checkpoint_of(path), ())

    def __bool__(self) -> bool:
        return bool(self._paths)

    def is_wanted(self, checkpoint: str) -> bool:
        """Return whether a checkpoint is still deferred: the script has made none of its name."""
        return checkpoint in self._paths

    def coming(self, checkpoint: str, states: Mapping[str, FileState], adopted: Mapping[str, FileEntry]) -> None:
        """Note the staged files of a checkpoint before they become visible; `adopted`: the entries of foreign ones."""
        with self._lock:
            self._coming[checkpoint] = states, adopted

    def placed(self, checkpoint: str) -> None:
        """Note that a checkpoint has been placed: a later scan finds it, unless it was deleted."""
        with self._lock:
            self._placed.add(checkpoint)

    def before_look(self) -> frozenset[str]:
        """Return the placed checkpoints, which the next scan finds unless they were deleted."""
        with self._lock:
            return frozenset(self._placed)

    def look(self, files: Mapping[str, FileState], placed: Collection[str]) -> Seen:
        """Compare with the files of a scan. Those that arrived, or were replaced or deleted, are deferred no longer.

        `placed` is the result of `before_look` before the scan.
        """
        seen = Seen()
        present = {checkpoint_of(path) for path in files}.union(placed)
        with self._lock:
            for checkpoint in present & self._paths.keys():
                paths = self._paths.pop(checkpoint)
                states, entries = self._coming.pop(checkpoint, ({}, {}))
                arrived = {path for path in paths if _is_same(states.get(path), files.get(path))}
                seen.arrived.update((path, files[path]) for path in arrived)
                seen.adopted.update((path, entries[path]) for path in arrived & entries.keys())
                # A checkpoint is placed at one moment, so a file of it that is missing has been deleted since.
                if not arrived and checkpoint not in placed:
                    seen.replaced.update(paths)
                self._placed.discard(checkpoint)
        return seen


def _is_same(coming: FileState | None, found: FileState | None) -> bool:
    """Return whether a file is the one that was placed. The renaming has set its change time."""
    if coming is None or found is None:
        return False
    return (coming.inode, coming.size, coming.mtime_ns) == (found.inode, found.size, found.mtime_ns)
