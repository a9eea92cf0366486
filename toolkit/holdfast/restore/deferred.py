"""Absent: files of the newest snapshot that are not on the disk by our own choice, and how they come to be there.

They are neither deleted nor new: they stay in the snapshots that follow. A checkpoint arrives as a whole, or the script
has made one of that name meanwhile; then that is the one, and of the absent one nothing is kept.
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
    """What a look at the checkpoint directory says of files that were absent.

    Attributes:
        arrived: path → state of what is there now as the store has it.
        adopted: path → entry of those of them that somebody else wrote, and no snapshot has yet.
        replaced: paths that are no longer wanted, as the script has made something else of that name.
    """

    arrived: dict[str, FileState] = field(default_factory=dict)
    adopted: dict[str, FileEntry] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)


class Deferred:
    """Which files are absent. Safe for several threads: one brings them, another one looks at the directory.

    Args:
        paths: of files that the snapshot has and the directory has not.
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
        """Say whether a checkpoint is still absent, and the script has made none of its name."""
        return checkpoint in self._paths

    def coming(self, states: Mapping[str, FileState], adopted: Mapping[str, FileEntry]) -> None:
        """Note how files look that are about to be put in place; to be called before anybody can see them.

        Args:
            states: by path, as they lie in staging.
            adopted: entries of those that somebody else wrote.
        """
        with self._lock:
            self._coming.update(states)
            self._entries.update(adopted)

    def placed(self, checkpoint: str) -> None:
        """Note that a checkpoint has been put in place: whoever looks from now on sees it, unless it was deleted."""
        with self._lock:
            self._placed.add(checkpoint)

    def before_look(self) -> frozenset[str]:
        """Return the checkpoints that a look which begins now must see, if nobody has deleted them."""
        with self._lock:
            return frozenset(self._placed)

    def look(self, files: Mapping[str, FileState], placed: Collection[str]) -> Seen:
        """Compare with the directory as it was seen; what arrived, or was replaced or deleted, is absent no longer.

        Args:
            files: the directory, by path.
            placed: what `before_look` returned before it was looked at.
        """
        seen = Seen()
        there = {checkpoint_of(path) for path in files} | set(placed)
        with self._lock:
            for checkpoint in there & self._paths.keys():
                self._look_at(checkpoint, files, placed, seen)
        return seen

    def _look_at(self, checkpoint: str, files: Mapping[str, FileState], placed: Collection[str], seen: Seen) -> None:
        paths = self._paths.pop(checkpoint)
        arrived = {path for path in paths if path in files and _same(self._coming.get(path), files[path])}
        seen.arrived.update((path, files[path]) for path in arrived)
        seen.adopted.update((path, self._entries[path]) for path in arrived if path in self._entries)
        # It is put in place at one moment, so what is missing of it has been deleted since.
        if not arrived and checkpoint not in placed:
            seen.replaced.update(paths)
        self._placed.discard(checkpoint)
        for path in paths:
            self._coming.pop(path, None)
            self._entries.pop(path, None)


def _same(coming: FileState | None, there: FileState) -> bool:
    """Say whether a file is the one that was put in place: the time of its change is that of its last renaming."""
    if coming is None:
        return False
    return (coming.inode, coming.size, coming.mtime_ns) == (there.inode, there.size, there.mtime_ns)
