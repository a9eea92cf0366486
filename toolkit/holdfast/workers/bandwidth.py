"""Measure transfers to the store, and estimate the seconds that the next ones take."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

USUAL_RATE = 50e6
"""Bytes per second until a transfer has been measured: what a modest instance has to S3."""
USUAL_COMMIT = 1.0
"""Seconds of a commit until one has been measured."""
_LEAST_BYTES = 1 << 20  # less measures the time of a request, and not the throughput
_LEAST_SECONDS = 0.05
_BLEND_SECONDS = 2.0  # from the beginning of a transfer, in which the last rate still counts
_COMMIT_FACTOR, _LEAST_COMMIT, _MOST_COMMIT = 3.0, 0.3, 5.0


class Bandwidth:
    """Measures transfers to the store. Bytes may be counted by several threads.

    Args:
        ticks: monotonic time in seconds.
        progress: called with the bytes of each file or part that has arrived, from any thread.
    """

    def __init__(self, ticks: Callable[[], float], *, progress: Callable[[int], None] = lambda size: None) -> None:
        self.arrived = 0
        """Bytes of files that the store has got."""
        self._progress = progress
        self._left = 0
        self._ticks = ticks
        self._lock = threading.Lock()
        self._last_rate: float | None = None
        self._began: float | None = None
        self._before = 0
        self._commit: float | None = None

    @property
    def sent(self) -> int:
        """Bytes of files that were sent so far."""
        return max(self.arrived, self._left)

    def count(self, size: int) -> None:
        """Count bytes of a file that have arrived: a whole file, or a part of it."""
        with self._lock:
            self.arrived += size
        self._progress(size)

    def leaving(self, size: int) -> None:
        """Count bytes of a file that are being sent, where the store reports them."""
        with self._lock:
            self._left += size

    def forget(self) -> None:
        """Forget the rate: it was measured under a limit that no longer holds."""
        self._last_rate = None

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Measure what is counted inside, while bytes are sent as fast as possible."""
        self._began, self._before = self._ticks(), self.sent
        try:
            yield
        finally:
            took, sent = self._ticks() - self._began, self.sent - self._before
            if sent >= _LEAST_BYTES and took > 0:
                self._last_rate = sent / max(took, _LEAST_SECONDS)
            self._began = None

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Measure a commit."""
        began = self._ticks()
        yield
        self._commit = self._ticks() - began

    @property
    def measured(self) -> float | None:
        """Bytes per second: of the current transfer once it is measurable, else of the last one; None before."""
        began = self._began
        if began is not None:
            took, sent = self._ticks() - began, self.sent - self._before
            if sent >= _LEAST_BYTES and took >= _LEAST_SECONDS:
                last, weight = (self._last_rate, max(0.0, _BLEND_SECONDS - took)) if self._last_rate else (0.0, 0.0)
                return (sent + last * weight) / (took + weight)
        return self._last_rate

    @property
    def rate(self) -> float:
        """Expected bytes per second."""
        return self.measured or USUAL_RATE

    def seconds_for(self, size: float) -> float:
        """Return the expected seconds of a transfer of `size` bytes."""
        return size / self.rate

    @property
    def commit_seconds(self) -> float:
        """Seconds to reserve for a commit: a multiple of the last one's, since a late commit is worth nothing."""
        if self._commit is None:
            return USUAL_COMMIT
        return min(_MOST_COMMIT, max(_LEAST_COMMIT, _COMMIT_FACTOR * self._commit))
