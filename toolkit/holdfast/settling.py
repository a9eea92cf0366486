"""Which files are quiet and closed, and so may be taken into a snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from holdfast.disk import FileState


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
        at: when, by the monotonic clock.
        signalled_ns: when the signal was sent, nanoseconds since the epoch; None when it was not ours (memory ran out,
            a crash), so that nobody looked before.
        writing: the files that were open for writing just before it was sent.
    """

    at: float
    signalled_ns: int | None = None
    writing: frozenset[str] = frozenset()


class Settling:
    """Keeps, for every path, when it last changed and whether its writer has closed it.

    A file is settled when it has been quiet for `after_close` seconds since its writer closed it or it was renamed
    into place. Where nobody
    saw it closed (network file systems tell of no writes on other hosts; an event queue overflowed), it takes `quiet`
    seconds without a change. A file that is known to be open for writing does not settle before it is closed.

    Args:
        quiet: seconds without a change, for files whose closing nobody saw.
        after_close: seconds without a change after the closing: writers reopen, and write pairs of files.
    """

    def __init__(self, *, quiet: float = 2.0, after_close: float = 0.3) -> None:
        self._quiet = quiet
        self._after_close = after_close
        self._seen: dict[str, _Seen] = {}
        self._open: set[str] = set()

    def written(self, path: str, now: float) -> None:
        """Note that somebody wrote to the file: it is open for writing."""
        self._open.add(path)
        self._touch(path, now, closed=False)

    def closed(self, path: str, now: float) -> None:
        """Note that a writer closed the file."""
        self._open.discard(path)
        self._touch(path, now, closed=True)

    def renamed(self, path: str, now: float) -> None:
        """Note that the file was renamed to this path: whoever does that has finished it."""
        self.closed(path, now)
        self._seen[path].renamed = True

    def gone(self, path: str) -> None:
        """Note that the file was deleted or renamed away."""
        self._open.discard(path)
        self._seen.pop(path, None)

    def forget_open(self) -> None:
        """Forget which files are open for writing: the kernel dropped events, so a closing may have been missed."""
        self._open.clear()

    def observe(self, files: Mapping[str, FileState], now: float) -> None:
        """Compare with what was seen before; a changed or new file starts to settle now."""
        for path, state in files.items():
            seen = self._seen.get(path)
            if seen is None:
                self._seen[path] = _Seen(state, now, closed=False)
            elif seen.state is None:
                seen.state = state
            elif seen.state != state:
                # A change that no event told of: a mapped file, or a write on another host.
                self._seen[path] = _Seen(state, now, closed=False)
        for path in [path for path in self._seen if path not in files]:
            self.gone(path)

    def unsettled(self, paths: Iterable[str], now: float) -> dict[str, float]:
        """Return those of `paths` that may not be taken yet, each with the seconds until it may be.

        Infinity means: not before it is closed.
        """
        waiting = {}
        for path in paths:
            seen = self._seen.get(path)
            if path in self._open:
                waiting[path] = float("inf")
            elif seen is not None:
                left = seen.changed_at + (self._after_close if seen.closed else self._quiet) - now
                if left > 0:
                    waiting[path] = left
        return waiting

    def cut_off(self, states: Iterable[FileState], killed: Killed) -> list[str]:
        """Return the paths of those files that may be half of something because their writer was killed.

        What was renamed into place is whole. A checkpoint that is one file is whole when nobody had it open at the
        signal and nobody wrote to it afterwards. Anything else has to have been settled: the kernel closes what a
        killed process had open, so a closing that was seen just then says nothing, and of a directory nobody knows
        which files were still to come.
        """
        suspect = []
        for state in states:
            seen = self._seen.get(state.path)
            if seen is not None and seen.renamed:
                continue
            if state.path == state.checkpoint and killed.signalled_ns is not None:
                cut = state.path in killed.writing or state.mtime_ns > killed.signalled_ns
            else:
                cut = bool(self.unsettled([state.path], killed.at))
            if cut:
                suspect.append(state.path)
        return suspect

    def _touch(self, path: str, now: float, *, closed: bool) -> None:
        self._seen[path] = _Seen(None, now, closed)
