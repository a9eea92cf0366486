"""StopToken and StoppedError: how a caller ends work early."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from holdfast.errors import HoldfastError

_SLICE = 0.2
"""Seconds between two looks at the token during a pause."""


class StoppedError(HoldfastError):
    """The caller stopped the work, or its deadline passed, before it was done."""


def _no() -> bool:
    return False


def _no_deadline() -> float:
    return math.inf


class StopToken:
    """Say whether work is to end now, and how long it may take. Every answer is current; safe from several threads.

    Args:
        parent: stops this token too, and winds it down.
        when: returns whether the work is to end now (an event's `is_set`, for example).
        seconds_left: returns the seconds until the deadline; infinity while there is none. It may appear and move.
        wind_down: returns whether the file in hand is to be finished and no other to be begun.
    """

    __slots__ = ("_parent", "_seconds_left", "_when", "_wind_down")

    def __init__(
        self,
        parent: StopToken | None = None,
        *,
        when: Callable[[], bool] = _no,
        seconds_left: Callable[[], float] = _no_deadline,
        wind_down: Callable[[], bool] = _no,
    ) -> None:
        self._parent, self._when, self._seconds_left, self._wind_down = parent, when, seconds_left, wind_down

    def stopped(self) -> bool:
        """Say whether the work is to end now."""
        return (self._parent is not None and self._parent.stopped()) or self._when() or self._seconds_left() <= 0

    def winding_down(self) -> bool:
        """Say whether no other file is to be begun. True also when stopped."""
        above = self._parent is not None and self._parent.winding_down()
        return above or self._when() or self._seconds_left() <= 0 or self._wind_down()

    def seconds_left(self) -> float:
        """Return the seconds until the work must end: 0 when stopped, infinity without a deadline."""
        if self._when():
            return 0.0
        left = self._seconds_left()
        if self._parent is not None:
            left = min(left, self._parent.seconds_left())
        return left if left > 0 else 0.0

    def refuse_if_stopped(self, doing: str) -> None:
        """Raise StoppedError, which says what was being done, when stopped."""
        if self.stopped():
            raise StoppedError(f"{doing} was stopped before it was done")

    def wait(self, seconds: float, sleep: Callable[[float], object] = time.sleep) -> None:
        """Sleep, and end the pause early when stopped."""
        while seconds > 0 and not self.stopped():
            sleep(min(seconds, _SLICE))
            seconds -= _SLICE


NEVER = StopToken()
"""The token of work that nothing stops."""
