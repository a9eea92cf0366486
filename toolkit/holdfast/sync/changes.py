"""Compare the checkpoint directory with the last snapshot."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from holdfast.local.scan import FileState, Scan
from holdfast.names import checkpoint_of
from holdfast.restore.deferred import Deferred
from holdfast.snapshot.record import FileEntry


class Changes:
    """The files of the last snapshot of one host, and those restored from other hosts. Not safe for several threads."""

    def __init__(
        self,
        entries: Mapping[str, FileEntry],
        theirs: Mapping[str, FileEntry],
        files: Mapping[str, FileState],
        deferred: Deferred,
    ) -> None:
        self.entries = dict(entries)
        """The files of the last snapshot, by path."""
        self._states = _as_restored(entries, files)
        self._theirs = _as_restored(theirs, files)
        self._deferred = deferred

    def take(self, entries: Mapping[str, FileEntry]) -> None:
        """Replace the last snapshot by the one just committed."""
        self.entries = dict(entries)
        self._states = {path: state for path, state in self._states.items() if path in entries}

    def seen(self, states: Iterable[FileState]) -> None:
        """Note the state of files whose content in the directory is the one in the last snapshot."""
        self._states.update({state.path: state for state in states})

    def arrived(self, states: Mapping[str, FileState], adopted: Mapping[str, FileEntry]) -> None:
        """Note the state of deferred files that were placed, and the adopted ones that no snapshot has yet."""
        self.entries |= adopted
        for path, state in states.items():
            self._states_with(path)[path] = state

    def changed(self, scan: Scan) -> list[FileState]:
        """Return the files that differ from the last snapshot, those of the newest checkpoint first."""
        states = [state for path, state in scan.files.items() if self._states_with(path).get(path) != state]
        newest: dict[str, int] = {}
        for state in states:
            newest[state.checkpoint] = max(newest.get(state.checkpoint, 0), state.mtime_ns)
        return sorted(states, key=lambda state: (-newest[state.checkpoint], state.checkpoint, state.path))

    def _states_with(self, path: str) -> dict[str, FileState]:
        return self._states if path in self.entries else self._theirs  # which another host commits until they change

    def dirty(self, scan: Scan) -> list[str]:
        """Return the paths in which the directory differs from the last snapshot."""
        return [*(state.path for state in self.changed(scan)), *self.vanished(scan)]

    def vanished(self, scan: Scan) -> list[str]:
        """Return the paths that the last snapshot has and the directory has not; none when the directory is empty.

        An empty directory is not committed: a script that wipes it at its start must not wipe what is stored.
        """
        gone = [path for path in self.entries if path not in scan.files] if scan.files else []
        unreadable = tuple(f"{directory}/" for directory in scan.unreadable)
        return [path for path in gone if path not in self._deferred and not path.startswith(unreadable)]

    def located(self, path: str) -> FileEntry | None:
        """Return a file of the last snapshot with the key of its content. Safe from another thread."""
        return self.entries.get(path)

    def stored_before(self, paths: Collection[str]) -> set[str]:
        """Return those of `paths` that the last snapshot has too."""
        return self.entries.keys() & set(paths)

    def newest_checkpoint_size(self) -> int:
        """Return the bytes of the newest checkpoint, an estimate for the next one."""
        if not self.entries:
            return 0
        newest = checkpoint_of(max(self.entries.values(), key=lambda entry: entry.mtime_ns).path)
        return sum(entry.size for path, entry in self.entries.items() if checkpoint_of(path) == newest)


def _as_restored(entries: Mapping[str, FileEntry], files: Mapping[str, FileState]) -> dict[str, FileState]:
    """Return the files that are in the directory as they were restored."""
    return {
        path: files[path]
        for path, entry in entries.items()
        if path in files and (files[path].size, files[path].mtime_ns) == (entry.size, entry.mtime_ns)
    }
