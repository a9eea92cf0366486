"""Track the deferred files: those of the newest snapshot that are restored later, or not at all.

They are neither deleted nor new, and stay in the snapshots that follow. A deferred checkpoint is placed as a whole. If
the script has made one of that name meanwhile, that one counts, and the deferred one is dropped.
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
        adopted: path → entry of those of another writer, which no snapshot has yet.
        replaced: paths that the script has replaced or deleted.
    """

    arrived: dict[str, FileState] = field(default_factory=dict)
    adopted: dict[str, FileEntry] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)


class Deferred:
    """The deferred files. Safe for several threads: one restores them while another one scans the directory.

    Args:
        paths: files of the snapshot that are not in the directory.
    """

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        self._paths: dict[str, set[str]] = {}
        for path in paths:
            self._paths.setdefault(checkpoint_of(path), set()).add(path)
        self._coming: dict[str, FileState] = {}
        self._entries: dict[str, FileEntry] = {}
        self._placed: set[str] = set()

    def __contains__(self, path: str) -> bool:
        return path in self._paths.get(checkpoint_of(path), ())

    def __bool__(self) -> bool:
        return bool(self._paths)

    def is_wanted(self, checkpoint: str) -> bool:
        """Return whether a checkpoint is still deferred: the script has made none of its name."""
        return checkpoint in self._paths

    def coming(self, states: Mapping[str, FileState], adopted: Mapping[str, FileEntry]) -> None:
        """Note the files that are about to be placed. Call it before they become visible.

        Args:
            states: states of the staged files, by path.
            adopted: entries of those of another writer, by path.
        """
        with self._lock:
            self._coming.update(states)
            self._entries.update(adopted)

    def placed(self, checkpoint: str) -> None:
        """Note that a checkpoint has been placed. A scan that begins from now on sees it, unless it was deleted."""
        with self._lock:
            self._placed.add(checkpoint)

    def before_look(self) -> frozenset[str]:
        """Return the checkpoints that a scan which begins now sees, unless they were deleted."""
        with self._lock:
            return frozenset(self._placed)

    def look(self, files: Mapping[str, FileState], placed: Collection[str]) -> Seen:
        """Compare with a scan. Files that arrived, or were replaced or deleted, are deferred no longer.

        Args:
            files: the files of the scan, by path.
            placed: result of `before_look` before the scan.
        """
        seen = Seen()
        present = {checkpoint_of(path) for path in files} | set(placed)
        with self._lock:
            for checkpoint in present & self._paths.keys():
                self._look_at(checkpoint, files, placed, seen)
        return seen

    def _look_at(self, checkpoint: str, files: Mapping[str, FileState], placed: Collection[str], seen: Seen) -> None:
        paths = self._paths.pop(checkpoint)
        arrived = {path for path in paths if path in files and _same(self._coming.get(path), files[path])}
        seen.arrived.update((path, files[path]) for path in arrived)
        seen.adopted.update((path, self._entries[path]) for path in arrived if path in self._entries)
        # A checkpoint is placed at one moment, so a file of it that is missing has been deleted since.
        if not arrived and checkpoint not in placed:
            seen.replaced.update(paths)
        self._placed.discard(checkpoint)
        for path in paths:
            self._coming.pop(path, None)
            self._entries.pop(path, None)


def _same(coming: FileState | None, found: FileState) -> bool:
    """Return whether a file is the one that was placed. The renaming has set its change time."""
    if coming is None:
        return False
    return (coming.inode, coming.size, coming.mtime_ns) == (found.inode, found.size, found.mtime_ns)
