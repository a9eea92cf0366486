"""Find how many requests at a time are worth it, from the throughput that they bring."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

_LEAST, _MOST = 2, 64
_REQUEST = 1 << 16  # bytes that a request counts beside its own: many small ones are work too
_WINDOW = 0.3  # seconds in which throughput is measured, at least …
_GAIN = 1.2  # … and by so much it must grow for more requests to be kept …
_LOSS = 0.9  # … and so much of it be left for fewer
_BUSY = 0.5  # processors in use from which on fewer requests are tried before more
_REST = 20  # windows after a search, or a refusal, in which no more are tried
_GAP, _PAUSE = 0.1, 5.0  # seconds without a request: no part of a window, and after which the search begins anew
_SMALL = 1 << 20  # bytes of a request of which the work is mostly Python's
_SAMPLE = 16  # small requests in a row from which their limit is computed …
_PATIENT = 4  # … when the server takes so many times as long as at its fastest


@dataclass(slots=True, kw_only=True)
class _Window:
    """Requests that have ended since a moment (seconds, by the clock and of CPU), and the most at a time."""

    began: float
    cpu: float
    peak: int
    ended: int = 0
    work: int = 0
    shortest_wait: float = math.inf


class Concurrency:
    """The number of requests that may be under way, for one store. Safe to use from several threads.

    For large requests it is searched: half as many more are kept while throughput grows with them. Where the processor
    is in use, half as many are tried first: threads that compete for it and for the interpreter cost up to half of the
    CPU time of a transfer. Small requests are Python's work, one thread at a time, so their number is computed: as many
    as find work while others wait for the server, two on loopback, dozens on a network.

    A server that asks for less, or breaks connections, halves the number; after some seconds without that it grows.

    Args:
        start: requests at the beginning (default 8).
        clock: monotonic time in seconds.
        cpu: seconds of CPU that this process has used.

    Attributes:
        limit: requests that may be under way now.
    """

    def __init__(
        self,
        start: int = 8,
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self.limit = self._start = start
        self._clock, self._cpu, self._lock = clock, cpu, threading.Lock()
        self._allowed, self._calm = _MOST, 0  # most requests that the server accepts; windows since it refused one
        self._small_limit: float | None = None  # None while requests are large
        self._under_way = self._stale = 0  # stale: begun under a higher limit
        self._last = clock()
        self._search_anew(start)

    def _search_anew(self, limit: int) -> None:
        self._search = _search(limit, self._start)
        self._tried = next(self._search)
        self._window, self._sample = self._open(), self._open()

    def _open(self) -> _Window:
        return _Window(began=self._clock(), cpu=self._cpu(), peak=self._under_way)

    def began(self) -> None:
        """Note that a request begins."""
        with self._lock:
            if self._under_way == 0 and (gap := self._clock() - self._last) > _GAP:
                self._window, self._sample = self._open(), self._open()
                if gap > _PAUSE:
                    self._search_anew(max(self._tried, self._start))
            self._under_way += 1
            self._window.peak = max(self._window.peak, self._under_way)

    def ended(self, size: int, *, refused: bool = False, waited: float = math.inf) -> None:
        """Note that a request has ended.

        Args:
            size: bytes of its bodies.
            refused: the server asked to slow down, or the connection broke.
            waited: seconds from its last byte to the answer's first; infinity without an answer.
        """
        with self._lock:
            self._last = self._clock()
            self._under_way -= 1
            self._look_at_size(size, waited)
            window, seconds = self._window, self._last - self._window.began
            window.ended += 1
            window.work += size + _REQUEST
            if self._stale:
                self._stale -= 1
                self._window = self._open()
            elif refused:
                self._allowed = max(_LEAST, max(self.limit, min(self._start, self._allowed)) // 2)
                self._calm, self._window = 0, self._open()
            elif seconds >= _WINDOW and window.ended >= self.limit:
                self._calm += 1
                if self._calm > _REST:
                    self._allowed = min(_MOST, self._allowed * 3 // 2)
                if self._small_limit is None and window.peak >= self._tried:  # else there was no demand for more
                    self._tried = self._search.send((window.work / seconds, (self._cpu() - window.cpu) / seconds))
                self._window = self._open()
            limit = min(self._allowed, round(self._small_limit or self._tried))
            if limit < self.limit:
                self._stale = self._under_way
            self.limit = limit

    def _look_at_size(self, size: int, waited: float) -> None:
        """Compute the limit of small requests once there were some in a row."""
        if size >= _SMALL:
            if self._small_limit is not None:
                self._small_limit, self._window = None, self._open()
            self._sample = self._open()
            return
        sample = self._sample
        sample.ended += 1
        sample.shortest_wait = min(sample.shortest_wait, waited)
        if sample.ended == _SAMPLE:
            each = max(1e-6, (self._cpu() - sample.cpu) / _SAMPLE)
            self._small_limit = min(_MOST, max(_LEAST, 1 + _PATIENT * sample.shortest_wait / each))
            self._sample = self._open()


def _search(limit: int, start: int) -> Generator[int, tuple[float, float], None]:
    """Yield the requests to try next; gets the bytes per second and the processors in use that they brought."""
    while True:
        best, processors = yield limit
        before = limit
        # Only from where a search begins: what each of them loses would add up.
        while limit > _LEAST and processors >= _BUSY and before >= start:
            rate, _ = yield (fewer := max(_LEAST, limit // 2))
            if rate < _LOSS * best:
                break
            best, limit = max(best, rate), fewer
        while limit < _MOST and limit >= before:
            rate, _ = yield (more := min(_MOST, limit + max(2, limit // 2)))
            if rate < _GAIN * best:
                break
            best, limit = rate, more
        for _ in range(_REST):
            yield limit  # for a while: the network may become another one
