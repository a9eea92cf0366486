"""Committed: what the last snapshot has, what its files looked like then, and in what the directory differs from it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from holdfast.local.scan import FileState, Scan
from holdfast.names import checkpoint_of
from holdfast.restore.deferred import Deferred
from holdfast.snapshot.record import FileEntry


class Changes:
    """The files of the last snapshot of one host. Not safe for several threads.

    Args:
        entries: its files.
        theirs: the files of other hosts, as they were restored.
        files: the directory as it is.
        absent: what of them is not in the directory by our own choice.
    """

    def __init__(
        self,
        entries: Mapping[str, FileEntry],
        theirs: Mapping[str, FileEntry],
        files: Mapping[str, FileState],
        absent: Deferred,
    ) -> None:
        self.entries = dict(entries)
        """The files of the last snapshot, by path."""
        self._states = _as_restored(entries, files)
        self._theirs = _as_restored(theirs, files)
        self._absent = absent

    def take(self, entries: Mapping[str, FileEntry]) -> None:
        """Take in what has been committed."""
        self.entries = dict(entries)
        self._states = {path: state for path, state in self._states.items() if path in entries}

    def seen(self, states: Iterable[FileState]) -> None:
        """Note how files looked that are in the last snapshot as they are in the directory."""
        self._states.update({state.path: state for state in states})

    def arrived(self, states: Mapping[str, FileState], adopted: Mapping[str, FileEntry]) -> None:
        """Note how files look that were absent and are there now, and what of them no snapshot has yet."""
        self.entries |= adopted
        for path, state in states.items():
            (self._states if path in self.entries else self._theirs)[path] = state

    def changed(self, scan: Scan) -> list[FileState]:
        """Return the files that are not as the last snapshot has them, those of the newest checkpoint first."""
        states = [state for path, state in scan.files.items() if self._is_news(path, state)]
        newest: dict[str, int] = {}
        for state in states:
            newest[state.checkpoint] = max(newest.get(state.checkpoint, 0), state.mtime_ns)
        return sorted(states, key=lambda state: (-newest[state.checkpoint], state.checkpoint, state.path))

    def _is_news(self, path: str, state: FileState) -> bool:
        if path in self.entries:
            return self._states.get(path) != state
        return self._theirs.get(path) != state  # what another host wrote, and nobody here has touched, is its business

    def vanished(self, scan: Scan) -> list[str]:
        """Return the paths that the last snapshot has and the directory has not; none when the directory is empty.

        An empty directory is no state to commit: a script that wipes it at its start must not wipe what is stored.
        """
        gone = [path for path in self.entries if path not in scan.files] if scan.files else []
        return [path for path in gone if path not in self._absent and not _is_below(path, scan.unreadable)]

    def newest_checkpoint_size(self) -> int:
        """Return the bytes of the newest checkpoint: what the next one is likely to weigh."""
        if not self.entries:
            return 0
        newest = checkpoint_of(max(self.entries.values(), key=lambda entry: entry.mtime_ns).path)
        return sum(entry.size for path, entry in self.entries.items() if checkpoint_of(path) == newest)


def _as_restored(entries: Mapping[str, FileEntry], files: Mapping[str, FileState]) -> dict[str, FileState]:
    """Return the files that are in the directory as they came from the store."""
    return {
        path: files[path]
        for path, entry in entries.items()
        if path in files and (files[path].size, files[path].mtime_ns) == (entry.size, entry.mtime_ns)
    }


def _is_below(path: str, directories: Collection[str]) -> bool:
    return any(path.startswith(f"{directory}/") for directory in directories)
