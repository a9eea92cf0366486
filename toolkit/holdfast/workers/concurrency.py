"""Concurrency: how many requests at a time are worth it, learnt from what they bring."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

_REQUEST = 1 << 16  # what a request counts beside its bytes: many small ones are work too
_WINDOW = 0.3  # seconds in which throughput is measured, at least …
_GAIN = 1.2  # … and by so much it must grow for more requests to be worth it …
_LOSS = 0.9  # … and so much of it be left for fewer to do
_BUSY = 0.5  # processors in use from which on fewer requests are tried before more
_REST = 20  # windows in which nothing is tried after a search has ended
_GAP = 0.1  # seconds with nothing under way that are no part of a window …
_PAUSE = 5.0  # … and after which what was found is of another time
_SMALL = 1 << 20  # bytes of a request of which the work is mostly Python's
_SAMPLE = 32  # small requests after which is asked how many threads have anything to do …
_ALIKE = 16  # small requests one after another that make what comes small: a few lie between the parts of large files
_PATIENT = 4  # … when the server takes so many times as long as at its fastest


class Concurrency:
    """Says how many requests may be under way, for one store. Safe to use from several threads.

    It begins modestly, adds half as many while throughput grows with it, goes back when it does not, and halves when
    the server asks for less or breaks connections. Where the processor is what is short, it looks first whether half as
    many do as well: threads that fight for it and for the interpreter cost up to half of the CPU time of a transfer.
    It only counts: whoever starts requests looks at `limit`.

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
        self._start, self._least, self._most, self._clock, self._cpu = start, least, most, clock, cpu
        self._sought, self._ceiling = start, most
        self._lock = threading.Lock()
        self._under_way = self._peak = self._ended = self._work = 0
        self._began = self._last = clock()
        self._cpu_began = cpu()
        self._step = 0  # what is being tried: more (1), fewer (-1) or, where a search begins, what there is (0)
        self._kept = self._from = start  # the best so far, and where the search began
        self._best = 0.0  # bytes per second of it
        self._rest = 0
        self._refused = False  # whether that is why there are so few
        self._old = 0  # requests that began before the limit fell: what they say is not of the new one
        self._alike, self._all_small = 0, False
        self._small, self._shortest, self._cpu_before = 0, math.inf, self._cpu_began

    def began(self) -> None:
        """Note that a request begins."""
        with self._lock:
            if self._under_way == 0 and (pause := (now := self._clock()) - self._last) > _GAP:
                if pause > _PAUSE:
                    self._search_anew()
                self._open_window(now)
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
            self._look_at_kind(size, now)
            self._look_at_waiting(size, waited, pause=now - self._last)
            self._last = now
            if self._old:
                self._old -= 1
                if not self._old:
                    self._open_window(now)
            elif refused:
                self._back_off(now)
            elif now - self._began >= _WINDOW and self._ended >= self.limit:
                if self._peak >= self._sought:  # else nobody wanted more: that says nothing
                    self._judge(self._work, self._cpu() - self._cpu_began, now - self._began)
                self._open_window(now)
            self.limit = min(self._sought, self._ceiling)

    def _look_at_kind(self, size: int, now: float) -> None:
        """Begin the search anew where large requests follow small ones, or small ones large ones."""
        self._alike = self._alike + 1 if size < _SMALL else 0
        all_small = self._alike >= _ALIKE or (self._all_small and self._alike > 0)
        if all_small != self._all_small:
            self._all_small = all_small
            self._search_anew()
            self._open_window(now)

    def _search_anew(self) -> None:
        """Forget what was found, but for how many the server refused."""
        if not self._refused:
            self._sought = self._kept = max(self._sought, self._start)
        self._step, self._best, self._rest, self._old = 0, 0.0, 0, 0

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

    def _judge(self, work: int, cpu: float, seconds: float) -> None:
        """Compare a window with the best so far, and go on with the search."""
        if self._rest:
            self._rest -= 1
            return
        rate = work / seconds
        if rate >= (_LOSS if self._step < 0 else _GAIN) * self._best:
            self._best, self._kept = max(self._best, rate), self._sought
            self._refused = self._refused and self._step != 1
            if self._step == 0:
                # Only from where it began: what each search loses would add up.
                self._step = -1 if cpu >= _BUSY * seconds and self._sought >= self._start else 1
                self._from = self._sought
        elif self._step < 0 and self._kept == self._from:
            self._step = 1
        else:
            self._settle()
            return
        few = self._kept < self._start  # as many more as there were less
        more = min(self._most, self._kept + max(2, self._kept if few else self._kept // 2))
        self._seek(more if self._step > 0 else max(self._least, self._kept // 2))
        if self._sought == self._kept:
            self._settle()

    def _seek(self, wanted: int) -> None:
        if wanted < self._sought:
            self._old = self._under_way
        self._sought = wanted

    def _settle(self) -> None:
        """Stay with the best, for a while: the line may become another one."""
        self._seek(self._kept)
        self._step, self._best, self._rest = 0, 0.0, _REST

    def _back_off(self, now: float) -> None:
        self._kept = max(self._least, (self._kept if self._step < 0 else self.limit) // 2)
        self._settle()
        self._refused, self._old = True, self._under_way
        self._open_window(now)

    def _open_window(self, now: float) -> None:
        self._began, self._ended, self._work, self._peak = now, 0, 0, self._under_way
        self._cpu_began = self._cpu()
