"""Bandwidth: what this life has measured of its way to the store, and what may be expected of it from that."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

USUAL_RATE = 50e6
"""Bytes per second until something has been measured: what a modest instance has to S3."""
USUAL_COMMIT = 1.0
"""Seconds that a commit takes, until one has been measured."""
_LEAST_BYTES = 1 << 20  # less says how long a request takes, and not how fast bytes travel
_LEAST_SECONDS = 0.05
_NOT_YET = 2.0  # seconds for which what was known before is believed while a transfer has only begun
_COMMIT_FACTOR, _LEAST_COMMIT, _MOST_COMMIT = 3.0, 0.3, 5.0


class Bandwidth:
    """Measures transfers to the store. Bytes may be counted by several threads.

    Args:
        ticks: a monotonic clock in seconds.
        progress: gets the bytes of each piece that has arrived, from any thread.
    """

    def __init__(self, ticks: Callable[[], float], *, progress: Callable[[int], None] = lambda size: None) -> None:
        self._progress = progress
        self._arrived = 0
        self._left = 0
        self._ticks = ticks
        self._lock = threading.Lock()
        self._known: float | None = None
        self._began: float | None = None
        self._before = 0
        self._commit: float | None = None

    @property
    def sent(self) -> int:
        """Bytes of files that have travelled so far."""
        return max(self._arrived, self._left)

    def count(self, size: int) -> None:
        """Count bytes of a file that have arrived: a whole file, or a part of it."""
        with self._lock:
            self._arrived += size
        self._progress(size)

    def leaving(self, size: int) -> None:
        """Count bytes of a file that leave now, where the store tells of them."""
        with self._lock:
            self._left += size

    def forget(self) -> None:
        """Forget the rate: it was measured under a limit that is no more."""
        self._known = None

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Measure what is counted inside: a time in which bytes travel as fast as they can."""
        self._began, self._before = self._ticks(), self.sent
        try:
            yield
        finally:
            took, sent = self._ticks() - self._began, self.sent - self._before
            if sent >= _LEAST_BYTES and took > 0:
                self._known = sent / max(took, _LEAST_SECONDS)
            self._began = None

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Measure a commit."""
        began = self._ticks()
        yield
        self._commit = self._ticks() - began

    @property
    def measured(self) -> float | None:
        """Bytes per second: of the transfer under way once it says something, else of the last one; None before."""
        began = self._began
        if began is not None:
            took, sent = self._ticks() - began, self.sent - self._before
            if sent >= _LEAST_BYTES and took >= _LEAST_SECONDS:
                known, weight = (self._known, max(0.0, _NOT_YET - took)) if self._known else (0.0, 0.0)
                return (sent + known * weight) / (took + weight)
        return self._known

    @property
    def rate(self) -> float:
        """Bytes per second that may be expected."""
        return self.measured or USUAL_RATE

    def seconds_for(self, size: float) -> float:
        """Return the seconds that so many bytes are expected to take."""
        return size / self.rate

    @property
    def commit_seconds(self) -> float:
        """Seconds to keep for a commit: what the last one took, several times, since a late one is worth nothing."""
        if self._commit is None:
            return USUAL_COMMIT
        return min(_MOST_COMMIT, max(_LEAST_COMMIT, _COMMIT_FACTOR * self._commit))
