"""How often and how long a request is repeated, and the pauses between."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from holdfast.errors import TransientStoreError
from holdfast.stop import StopToken


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long a request is repeated.

    Attributes:
        attempts: tries in all, the first one included.
        seconds: no new try begins when this much time has passed since the first one began.
        first_pause: seconds; the pause before try n+1 is random between 0 and first_pause * 2^(n-1) …
        longest_pause: … but never more than this many seconds.
    """

    attempts: int = 8
    seconds: float = 120.0
    first_pause: float = 0.2
    longest_pause: float = 10.0


class Tries:
    """The tries of one request.

    Args:
        policy: how many, and how long.
        stop: makes the next failure final, and ends a pause.
        complain: gets what failed twice.
        sleep: waits the given seconds.
        random: gives a number from 0 to 1.

    Attributes:
        failed: how many have failed since there was progress.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        stop: StopToken,
        complain: Callable[[TransientStoreError], None],
        sleep: Callable[[float], object],
        random: Callable[[], float],
    ) -> None:
        self.failed = 0
        self._policy, self._stop, self._sleep, self._random = policy, stop, sleep, random
        self._complain = complain
        self._began = time.monotonic()

    def after(self, error: TransientStoreError) -> None:
        """Pause before the next try, or raise when there is to be none."""
        policy = self._policy
        self.failed += 1
        ceiling = min(policy.longest_pause, policy.first_pause * 2.0 ** min(self.failed - 1, 60))
        pause = ceiling * self._random()
        waited = time.monotonic() - self._began
        if self.failed >= policy.attempts or waited + pause > policy.seconds or self._stop.stopped():
            if self.failed == 1:
                raise error
            raise TransientStoreError(f"{error} (given up after {self.failed} tries in {waited:.0f} s)") from error
        if self.failed > 1:
            self._complain(error)
        self._stop.wait(pause, self._sleep)

    def start_again(self) -> None:
        """Count from the beginning: there was progress since the last failure."""
        self.failed = 0
        self._began = time.monotonic()
