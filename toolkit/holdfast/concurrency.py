"""Concurrency: how many requests at a time are worth it, learnt from what they bring."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_REQUEST = 1 << 16  # what a request counts beside its bytes: many small ones are work too
_WINDOW = 0.3  # seconds in which throughput is measured, at least …
_GAIN = 1.2  # … and by so much it must grow for more requests to be worth it
_REST = 20  # windows in which nothing is tried after more have brought nothing


class Concurrency:
    """Says how many requests may be under way, for one store. Safe to use from several threads.

    It begins modestly, adds half as many while throughput grows with it, goes back when it does not, and halves when
    the server asks for less or breaks connections. It only counts: whoever starts requests looks at `limit`.

    Args:
        start: what it begins with.
        least, most: between these it stays.
        clock: seconds.

    Attributes:
        limit: requests that may be under way now.
    """

    def __init__(
        self, *, start: int = 8, least: int = 2, most: int = 64, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit = start
        self._least, self._most, self._clock = least, most, clock
        self._lock = threading.Lock()
        self._under_way = self._peak = self._ended = self._work = 0
        self._began = clock()
        self._best = 0.0
        self._before = start  # what to go back to
        self._rest = 0
        self._settling = 0  # requests that were under way when the server asked for less: they may ask it again

    def began(self) -> None:
        """Note that a request begins."""
        with self._lock:
            self._under_way += 1
            self._peak = max(self._peak, self._under_way)

    def ended(self, size: int, *, refused: bool = False) -> None:
        """Note that a request has ended.

        Args:
            size: bytes of its bodies.
            refused: the server asked to slow down, or the connection broke.
        """
        with self._lock:
            self._under_way -= 1
            self._ended += 1
            self._work += size + _REQUEST
            now = self._clock()
            settled = self._settling == 0
            self._settling = max(0, self._settling - 1)
            if refused and settled:
                self._back_off(now)
            elif now - self._began >= _WINDOW and self._ended >= self.limit:
                if self._peak >= self.limit:  # else nobody wanted more: that says nothing
                    self._judge(self._work / (now - self._began))
                self._open_window(now)

    def _judge(self, rate: float) -> None:
        if rate >= _GAIN * self._best:
            self._best, self._before = rate, self.limit
            if self._rest == 0:
                self.limit = min(self._most, self.limit + max(2, self.limit // 2))
                return
        elif self.limit > self._before:
            self.limit, self._rest = self._before, _REST
        if self._rest:
            self._rest -= 1
            if self._rest == 0:
                self._best = 0.0  # the line may have become another one: measure anew

    def _back_off(self, now: float) -> None:
        self.limit = max(self._least, self.limit // 2)
        self._before, self._best, self._rest = self.limit, 0.0, _REST
        self._settling = self._under_way
        self._open_window(now)

    def _open_window(self, now: float) -> None:
        self._began, self._ended, self._work, self._peak = now, 0, 0, self._under_way
