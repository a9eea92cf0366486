"""Which files are quiet and closed, and so may be taken into a snapshot."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from holdfast.local.scan import FileState
from holdfast.names import checkpoint_of, is_log

_CLOCK_STEP = 0.002  # seconds that an event may be noted late


@dataclass(slots=True)
class _Seen:
    state: FileState | None
    changed_at: float
    closed: bool
    renamed: bool = False


@dataclass(frozen=True, slots=True)
class Killed:
    """How the writers of a directory were ended by a signal.

    Attributes:
        at: when the signal was sent, by the monotonic clock; when the script died, where it was not ours.
        seen: whether somebody looked who writes what just before; not where memory ran out, or the script crashed.
        writing: the files that those who died of it had open for writing.
        script_died: whether the script itself died of it, and not only processes beside it.
    """

    at: float
    seen: bool = False
    writing: frozenset[str] = frozenset()
    script_died: bool = True


class Settling:
    """Keeps, for every path, when it last changed and whether its writer has closed it.

    A file at the top level is settled when it was renamed into place, or has been quiet for `after_close` seconds
    since its writer closed it. Where nobody saw it closed (network file systems tell of no writes on other hosts; an
    event queue overflowed), it takes `quiet` seconds without a change. A file that is known to be open for writing
    does not settle before it is closed. A directory is settled as a whole, when nothing in it but logs has changed
    for `directory` seconds, or when it was renamed into place. Where files at the top level are deleted and none is
    written, that is settled when none has been deleted for `directory` seconds.

    Args:
        quiet: seconds without a change, for files whose closing nobody saw.
        after_close: seconds without a change after the closing: writers reopen, and write pairs of files.
        directory: seconds without a change in a whole directory: between two shards a trainer may take its time.
    """

    def __init__(self, *, quiet: float = 2.0, after_close: float = 0.3, directory: float = 5.0) -> None:
        self._quiet = quiet
        self._after_close = after_close
        self._directory = directory
        self._seen: dict[str, _Seen] = {}
        self._open: set[str] = set()
        # Directory → the earliest and the latest moment at which its last change may have been.
        self._touched: dict[str, tuple[float, float]] = {}
        self._observed_at = -math.inf
        self._deleted_at = -math.inf  # at the top level

    def finished(self, states: Iterable[FileState]) -> None:
        """Take it that files are settled as they are: they were finished before this life began."""
        self._seen.update({state.path: _Seen(state, -math.inf, closed=True) for state in states})

    def written(self, path: str, now: float) -> None:
        """Note that somebody wrote to the file: it is open for writing."""
        self._open.add(path)
        self._touch(path, now, closed=False)

    def closed(self, path: str, now: float) -> None:
        """Note that a writer closed the file."""
        self._open.discard(path)
        self._touch(path, now, closed=True)

    def renamed(self, source: str, path: str, now: float) -> None:
        """Note that the file was renamed: whoever does that has finished it.

        Inside one directory that says nothing of the others there; a file that came from elsewhere came with them.
        """
        before = self._touched.get(checkpoint_of(path))
        self.gone(source, now)
        self.closed(path, now)
        if "/" not in path or checkpoint_of(source) != checkpoint_of(path):
            self._seen[path].renamed = True
            self._touched[checkpoint_of(path)] = (-math.inf, -math.inf) if before is None else before

    def gone(self, path: str, now: float, *, since: float | None = None) -> None:
        """Note that the file was deleted or renamed away, after `since`: the rest of its checkpoint may follow."""
        self._open.discard(path)
        self._seen.pop(path, None)
        self._touch_directory(path, now, since)
        if "/" not in path:
            self._deleted_at = now

    def forget_open(self) -> None:
        """Forget which files are open for writing: the kernel dropped events, so a closing may have been missed."""
        self._open.clear()

    def observe(self, files: Mapping[str, FileState], now: float) -> None:
        """Compare with what was seen before; a changed or new file starts to settle now."""
        for path, state in files.items():
            seen = self._seen.get(path)
            if seen is None or (seen.state is not None and seen.state != state):
                # New to us, or a change that no event told of: a mapped file, or a write on another host.
                self._touch(path, now, closed=False, since=self._observed_at)
            self._seen[path].state = state
        for path in [path for path in self._seen if path not in files]:
            self.gone(path, now, since=self._observed_at)
        self._observed_at = now

    def unsettled(self, paths: Iterable[str], now: float) -> dict[str, float]:
        """Return those of `paths` that may not be taken yet, each with the seconds until it may be.

        Infinity means: not before it is closed.
        """
        waiting = {}
        every = list(paths)
        # Who deletes old checkpoints has written a new one. Who only deletes may be about to delete all of them, and
        # the halves of that would push the snapshots out that have everything.
        only_deleted = not any(path in self._seen and not is_log(path) for path in every)
        for path in every:
            left = self._seconds_to_quiet(path, now)
            if "/" in path and not is_log(path):
                left = max(left, self._last_touched(path)[1] + self._directory - now)
            elif only_deleted and path not in self._seen:
                left = max(left, self._deleted_at + self._directory - now)
            if left > 0:
                waiting[path] = left
        return waiting

    def is_quiet(self, path: str, now: float) -> bool:
        """Say whether a file by itself is done, whatever the rest of its checkpoint may do."""
        return self._seconds_to_quiet(path, now) <= 0

    def _seconds_to_quiet(self, path: str, now: float) -> float:
        seen = self._seen.get(path)
        if path in self._open:
            return math.inf
        if seen is None or seen.renamed:
            return 0.0
        return seen.changed_at + (self._after_close if seen.closed else self._quiet) - now

    def cut_off(
        self,
        paths: Iterable[str],
        killed: Killed,
        is_whole: Callable[[str], bool] = lambda path: False,
        overwritten: Collection[str] = (),
    ) -> list[str]:
        """Return those of `paths` that may be half of something because their writer was killed.

        What was renamed into place is whole. Where somebody looked before the signal, a file is suspect when one that
        died had it open, and a directory also when it was touched just before: nobody knows which files were still to
        come. Where nobody looked, whatever had not settled is suspect: the kernel closes what a killed process had
        open, so a closing that was seen just then says nothing.

        Args:
            paths: of files that are not as the last snapshot has them.
            killed: how.
            is_whole: says of a file at the top level whether its format proves that it is whole; such a one is no
                suspect. A directory may lack files that nobody has begun.
            overwritten: those of which a snapshot has an older version.
        """
        every = list(paths)
        suspects = {path for path in every if self._is_cut_off(path, killed)}
        suspects -= {path for path in suspects if "/" not in path and is_whole(path)}
        if any("/" not in path for path in suspects):
            # Weights that were overwritten just before their JSON was cut off belong to it, and old JSON not to them.
            suspects |= {path for path in every if path in overwritten and self._came_just_before(path, killed)}
        return [path for path in every if path in suspects]

    def _came_just_before(self, path: str, killed: Killed) -> bool:
        seen = self._seen.get(path)
        in_place = "/" not in path and not is_log(path) and seen is not None and not seen.renamed
        return in_place and seen is not None and killed.at - self._directory < seen.changed_at

    def _is_cut_off(self, path: str, killed: Killed) -> bool:
        seen = self._seen.get(path)
        if is_log(path):
            return False  # a log is worth having however it ends
        if path in killed.writing:
            return True
        if not killed.script_died or ("/" not in path and seen is not None and seen.renamed):
            return False
        if not killed.seen:
            return bool(self.unsettled([path], killed.at))
        earliest, latest = self._last_touched(path)
        # What was surely touched after the signal was touched by one who outlived it.
        return "/" in path and killed.at - self._directory < latest and earliest <= killed.at + _CLOCK_STEP

    def _last_touched(self, path: str) -> tuple[float, float]:
        return self._touched.get(checkpoint_of(path), (-math.inf, -math.inf))

    def _touch(self, path: str, now: float, *, closed: bool, since: float | None = None) -> None:
        self._seen[path] = _Seen(None, now, closed)
        self._touch_directory(path, now, since)

    def _touch_directory(self, path: str, now: float, since: float | None) -> None:
        # A log in a directory is written all the time, and says nothing of the checkpoint there.
        if "/" in path and not is_log(path):
            self._touched[checkpoint_of(path)] = (now if since is None else since, now)
