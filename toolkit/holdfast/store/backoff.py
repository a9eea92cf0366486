"""The retries of a request: how many, for how long, and the pauses between them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from holdfast.errors import TransientStoreError
from holdfast.stop import StopToken


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long a request is repeated.

    Attributes:
        attempts: tries, the first one included (default 8).
        seconds: no try begins later than this after the first one (default 120).
        first_pause: seconds (default 0.2); the pause before try n+1 is random between 0 and first_pause * 2^(n-1) …
        longest_pause: … but never more than this many seconds (default 10).
    """

    attempts: int = 8
    seconds: float = 120.0
    first_pause: float = 0.2
    longest_pause: float = 10.0


@dataclass(slots=True, kw_only=True)
class Retries:
    """The tries of one request.

    Attributes:
        policy: how many, and how long.
        warn: called with every failure but the first, when another try follows.
        sleep: waits the given seconds.
        random: returns a number from 0 to 1.
        failed: failures since the last progress.
        began: when the first try after that began, by the monotonic clock.
    """

    policy: RetryPolicy
    stop: StopToken
    warn: Callable[[TransientStoreError], None]
    sleep: Callable[[float], object]
    random: Callable[[], float]
    failed: int = 0
    began: float = field(default_factory=time.monotonic)

    def pause_after(self, error: TransientStoreError) -> None:
        """Pause before the next try, or raise when there is none left."""
        policy = self.policy
        self.failed += 1
        ceiling = min(policy.longest_pause, policy.first_pause * 2.0 ** min(self.failed - 1, 60))
        pause = ceiling * self.random()
        waited = time.monotonic() - self.began
        if self.failed >= policy.attempts or waited + pause > policy.seconds or self.stop.stopped():
            if self.failed == 1:
                raise error
            raise TransientStoreError(f"{error} (given up after {self.failed} tries in {waited:.0f} s)") from error
        if self.failed > 1:
            self.warn(error)
        self.stop.wait(pause, self.sleep)

    def note_progress(self) -> None:
        """Count tries and seconds from the beginning."""
        self.failed = 0
        self.began = time.monotonic()
