"""Which files are closed and quiet, so that a snapshot may have them; which may be torn after a kill."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from holdfast.local.scan import FileState
from holdfast.names import checkpoint_of, is_log

QUIET = 2.0
"""Seconds without a change after which a file without a close event is settled."""
AFTER_CLOSE = 0.3
"""Seconds without a change after which a closed file is settled: a writer may reopen it, or write a pair of files."""
DIRECTORY_QUIET = 5.0
"""Seconds without a change after which a directory is settled: the next shard may take its time."""
_CLOCK_STEP = 0.002  # seconds that an event may be noted late
_NEVER = -math.inf


@dataclass(slots=True)
class _Seen:
    state: FileState | None
    changed_at: float
    closed: bool
    renamed: bool = False


@dataclass(frozen=True, slots=True)
class Killed:
    """How a signal ended the processes that write to the directory.

    Attributes:
        at: when the signal was sent, or when the script was found dead, by the monotonic clock.
        seen: whether open files were looked up just before; not if the kernel or another process sent the signal.
        script_died: whether the signal ended the script itself, not only other processes.
    """

    at: float
    seen: bool = False
    writing: frozenset[str] = frozenset()
    script_died: bool = True


class Settling:
    """When each path last changed, whether it is closed, and so whether it is settled.

    A file at the top level is settled when it was renamed into place, or `AFTER_CLOSE` seconds after it was closed.
    Without a close event (none comes for writes on other hosts of a network file system, or from a queue that
    overflowed), it is settled after `QUIET` seconds without a change. A file that is known to be open for writing is
    not. A directory is settled as a whole: when it was renamed into place, or when nothing in it but logs has changed
    for `DIRECTORY_QUIET` seconds. So are deletions at the top level that come without a write.
    """

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._open: set[str] = set()
        # Directory → the earliest and the latest time at which it may have last changed.
        self._touched: dict[str, tuple[float, float]] = {}
        self._observed_at = _NEVER
        self._deleted_at = _NEVER  # at the top level

    def finished(self, states: Iterable[FileState]) -> None:
        """Note that files are settled: they were finished before this attempt."""
        self._seen.update({state.path: _Seen(state, _NEVER, closed=True) for state in states})

    def written(self, path: str, now: float) -> None:
        """Note a write: the file is open."""
        self._open.add(path)
        self._touch(path, now, closed=False)

    def closed(self, path: str, now: float) -> None:
        """Note that a writer closed the file."""
        self._open.discard(path)
        self._touch(path, now, closed=True)

    def renamed(self, source: str, path: str, now: float) -> None:
        """Note that a file was renamed, and so is finished.

        A rename inside a directory settles only that file; one from elsewhere brought the whole directory.
        """
        before = self._last_touched(path)
        self.gone(source, now)
        self.closed(path, now)
        if "/" not in path or checkpoint_of(source) != checkpoint_of(path):
            self._seen[path].renamed = True
            self._touched[checkpoint_of(path)] = before

    def gone(self, path: str, now: float, *, since: float | None = None) -> None:
        """Note that a file was deleted or renamed away, after `since`: the rest of its checkpoint may follow."""
        self._open.discard(path)
        self._seen.pop(path, None)
        self._touch_directory(path, now, since)
        if "/" not in path:
            self._deleted_at = now

    def forget_open(self) -> None:
        """Forget which files are open: the kernel dropped events, and a close may have been among them."""
        self._open.clear()

    def observe(self, files: Mapping[str, FileState], now: float) -> None:
        """Compare a scan with the one before; a new or changed file begins to settle now."""
        for path, state in files.items():
            seen = self._seen.get(path)
            if seen is None or (seen.state is not None and seen.state != state):
                # A change without an event: new, written through a mapping, or on another host.
                self._touch(path, now, closed=False, since=self._observed_at)
            self._seen[path].state = state
        for path in [path for path in self._seen if path not in files]:
            self.gone(path, now, since=self._observed_at)
        self._observed_at = now

    def unsettled(self, paths: Collection[str], now: float) -> dict[str, float]:
        """Return those of `paths` that are not settled → seconds until they are; infinity while one is open."""
        waiting = {}
        # A script that deletes old checkpoints has written a new one. One that only deletes may be deleting all of
        # them, and snapshots of a half-deleted directory would push the complete ones out of the retention.
        only_deleted = not any(path in self._seen and not is_log(path) for path in paths)
        for path in paths:
            left = self._seconds_to_quiet(path, now)
            if "/" in path and not is_log(path):
                left = max(left, self._last_touched(path)[1] + DIRECTORY_QUIET - now)
            elif only_deleted and path not in self._seen:
                left = max(left, self._deleted_at + DIRECTORY_QUIET - now)
            if left > 0:
                waiting[path] = left
        return waiting

    def is_quiet(self, path: str, now: float) -> bool:
        """Say whether a file by itself is settled, whatever the rest of its checkpoint is."""
        return self._seconds_to_quiet(path, now) <= 0

    def torn(
        self,
        paths: Collection[str],
        killed: Killed,
        is_whole: Callable[[str], bool] = lambda path: False,
        overwritten: Collection[str] = (),
    ) -> list[str]:
        """Return those of `paths` that may be torn because their writer was killed.

        What was renamed into place is whole. If open files were looked up before the signal, those of the killed
        processes may be torn, and so may directories that changed just before it: files may be missing. If not,
        all that was not settled may be torn: the kernel closes the files of a killed process, so a close event at
        that time proves nothing. A file at the top level is not torn where its format proves it (`is_whole`).
        """
        torn = {path for path in paths if self._is_torn(path, killed)}
        torn -= {path for path in torn if "/" not in path and is_whole(path)}
        if any("/" not in path for path in torn):
            # Weights that were overwritten just before their JSON was torn go with the new JSON, not with the old.
            torn |= {path for path in paths if path in overwritten and self._changed_just_before(path, killed)}
        return [path for path in paths if path in torn]

    def _is_torn(self, path: str, killed: Killed) -> bool:
        seen = self._seen.get(path)
        if is_log(path):
            return False  # a log is of use however it ends
        if path in killed.writing:
            return True
        if not killed.script_died or ("/" not in path and seen is not None and seen.renamed):
            return False
        if not killed.seen:
            return bool(self.unsettled([path], killed.at))
        earliest, latest = self._last_touched(path)
        # A change that is surely later than the signal was made by a process that survived it.
        return "/" in path and killed.at - DIRECTORY_QUIET < latest and earliest <= killed.at + _CLOCK_STEP

    def _changed_just_before(self, path: str, killed: Killed) -> bool:
        if "/" in path or is_log(path) or path not in self._seen or self._seen[path].renamed:
            return False
        return killed.at - DIRECTORY_QUIET < self._seen[path].changed_at

    def _seconds_to_quiet(self, path: str, now: float) -> float:
        seen = self._seen.get(path)
        if path in self._open:
            return math.inf
        if seen is None or seen.renamed:
            return 0.0
        return seen.changed_at + (AFTER_CLOSE if seen.closed else QUIET) - now

    def _last_touched(self, path: str) -> tuple[float, float]:
        return self._touched.get(checkpoint_of(path), (_NEVER, _NEVER))

    def _touch(self, path: str, now: float, *, closed: bool, since: float | None = None) -> None:
        self._seen[path] = _Seen(None, now, closed)
        self._touch_directory(path, now, since)

    def _touch_directory(self, path: str, now: float, since: float | None) -> None:
        # A log in a directory is written all the time, and says nothing of the checkpoint there.
        if "/" in path and not is_log(path):
            self._touched[checkpoint_of(path)] = (now if since is None else since, now)
