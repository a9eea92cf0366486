"""Concurrency: how many requests at a time are worth it, learnt from what they bring."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

_REQUEST = 1 << 16  # what a request counts beside its bytes: many small ones are work too
_WINDOW = 0.3  # seconds in which throughput is measured, at least …
_GAIN = 1.2  # … and by so much it must grow for more requests to be worth it
_REST = 20  # windows in which nothing is tried after more have brought nothing
_SMALL = 1 << 20  # bytes of a request of which the work is mostly Python's
_SAMPLE = 32  # small requests after which is asked how many threads have anything to do …
_PATIENT = 4  # … when the server takes so many times as long as at its fastest


class Concurrency:
    """Says how many requests may be under way, for one store. Safe to use from several threads.

    It begins modestly, adds half as many while throughput grows with it, goes back when it does not, and halves when
    the server asks for less or breaks connections. It only counts: whoever starts requests looks at `limit`.

    Small requests are Python's work, one thread at a time, and more threads than find work there while others wait for
    the server take it from one another: two do on loopback, dozens on a network. Which it is, the shortest wait for an
    answer tells, beside the CPU time of a request.

    Args:
        start: what it begins with.
        least, most: between these it stays.
        clock: seconds.
        cpu: seconds of CPU that this process has used.

    Attributes:
        limit: requests that may be under way now.
    """

    def __init__(
        self,
        *,
        start: int = 8,
        least: int = 2,
        most: int = 64,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self.limit = start
        self._climbed, self._ceiling = start, most
        self._least, self._most, self._clock, self._cpu = least, most, clock, cpu
        self._lock = threading.Lock()
        self._under_way = self._peak = self._ended = self._work = 0
        self._began = self._last = clock()
        self._best = 0.0
        self._before = start  # what to go back to
        self._rest = 0
        self._settling = 0  # requests that were under way when the server asked for less: they may ask it again
        self._small, self._shortest, self._cpu_before = 0, math.inf, cpu()

    def began(self) -> None:
        """Note that a request begins."""
        with self._lock:
            self._under_way += 1
            self._peak = max(self._peak, self._under_way)

    def ended(self, size: int, *, refused: bool = False, waited: float | None = None) -> None:
        """Note that a request has ended.

        Args:
            size: bytes of its bodies.
            refused: the server asked to slow down, or the connection broke.
            waited: seconds from its last byte to the answer's first; None: it had none.
        """
        with self._lock:
            self._under_way -= 1
            self._ended += 1
            self._work += size + _REQUEST
            now = self._clock()
            self._look_at_waiting(size, waited, pause=now - self._last)
            self._last = now
            settled = self._settling == 0
            self._settling = max(0, self._settling - 1)
            if refused and settled:
                self._back_off(now)
            elif now - self._began >= _WINDOW and self._ended >= self.limit:
                if self._peak >= self._climbed:  # else nobody wanted more: that says nothing
                    self._judge(self._work / (now - self._began))
                self._open_window(now)
            self.limit = min(self._climbed, self._ceiling)

    def _look_at_waiting(self, size: int, waited: float | None, pause: float) -> None:
        """Ask now and then how many threads small requests keep busy. Large ones leave the processor to others."""
        if size >= _SMALL or pause > _WINDOW:
            self._ceiling, self._small = self._most, 0
        if waited is None or size >= _SMALL:
            return
        if self._small == 0:
            self._shortest, self._cpu_before = math.inf, self._cpu()
        self._small += 1
        self._shortest = min(self._shortest, waited)
        if self._small > _SAMPLE:
            each = (self._cpu() - self._cpu_before) / _SAMPLE
            busy = 1 + _PATIENT * self._shortest / max(each, 1e-6)
            self._ceiling, self._small = min(self._most, max(self._least, round(busy))), 0

    def _judge(self, rate: float) -> None:
        if rate >= _GAIN * self._best:
            self._best, self._before = rate, self._climbed
            if self._rest == 0:
                self._climbed = min(self._most, self._climbed + max(2, self._climbed // 2))
                return
        elif self._climbed > self._before:
            self._climbed, self._rest = self._before, _REST
        if self._rest:
            self._rest -= 1
            if self._rest == 0:
                self._best = 0.0  # the line may have become another one: measure anew

    def _back_off(self, now: float) -> None:
        self._climbed = max(self._least, self.limit // 2)
        self._before, self._best, self._rest = self._climbed, 0.0, _REST
        self._settling = self._under_way
        self._open_window(now)

    def _open_window(self, now: float) -> None:
        self._began, self._ended, self._work, self._peak = now, 0, 0, self._under_way
