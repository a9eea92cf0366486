"""When the watch scans the directory again, tries again after a failure, and commits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

SAFETY_SCAN = 30.0
"""Seconds between two scans that no event triggered, at least."""
SAFETY_SHARE = 0.0003
"""Share of a core that these scans take at most; they come less often where a scan costs more."""
LONGEST_SAFETY_SCAN = 3600.0
"""Seconds between two of these scans, at most."""
BLIND_SCAN = 2.0
"""Seconds between two scans where the kernel reports no events, at least."""
BUSY_SHARE = 0.05
"""Share of a core that scans take at most where there are events, or where the kernel reports none."""
COMMIT_DELAY = 5.0
"""Seconds for which settled checkpoints wait for others that are still being written, so that one commit has both."""
_LEAST_PAUSE = 0.1
_LONGEST_BACKOFF = 60.0


class Schedule:
    """Times of the next scan and of the next commit. For one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.failures = 0
        """Consecutive failures."""
        self._clock = clock
        self._earliest = -math.inf
        self._due = -math.inf
        self._settled_since = math.inf

    def seconds_to_scan(self, *, triggered: bool) -> float:
        """Return the seconds until the next scan; `triggered`: an event has come since the last."""
        return (self._earliest if triggered else max(self._due, self._earliest)) - self._clock()

    def scanned(self, cost: float, *, blind: bool) -> None:
        """Note a scan that took `cost` CPU seconds; `blind`: the kernel reports no events."""
        now, busy = self._clock(), cost / BUSY_SHARE
        safety = min(LONGEST_SAFETY_SCAN, max(SAFETY_SCAN, cost / SAFETY_SHARE))
        self._earliest = now + max(_LEAST_PAUSE, busy)
        self._due = now + (max(BLIND_SCAN, busy) if blind else safety)

    def scan_within(self, seconds: float) -> None:
        """Scan again after `seconds`, or after `COMMIT_DELAY` if that is less."""
        self._due = self._clock() + min(seconds, COMMIT_DELAY)

    def is_commit_due(self, *, settled: bool, unsettled: bool) -> bool:
        """Say whether to commit now: something is settled, and nothing is unsettled or `COMMIT_DELAY` has passed."""
        now = self._clock()
        self._settled_since = min(self._settled_since, now) if settled else math.inf
        return settled and (not unsettled or now >= self._settled_since + COMMIT_DELAY)

    def committed(self) -> None:
        """Note a commit of all that was settled."""
        self.failures = 0
        self._settled_since = math.inf

    def back_off(self) -> float:
        """Delay the next scan after a failure; return the pause in seconds."""
        self.failures += 1
        pause = min(_LONGEST_BACKOFF, 2.0**self.failures)
        self._earliest = self._due = max(self._earliest, self._clock() + pause)
        return pause
