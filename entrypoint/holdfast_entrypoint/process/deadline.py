"""Deadline: when the script must have ended, and when everything must be durable."""

from __future__ import annotations

from dataclasses import dataclass

# Bounds of the part of the time that is kept for the flush, whatever is measured.
_LEAST_FOR_FLUSH = 0.2
_MOST_FOR_FLUSH = 0.6


@dataclass(frozen=True, slots=True)
class Deadline:
    """Two times, in seconds of one monotonic clock.

    Attributes:
        stop_by: time at which the script is killed.
        end: time at which the host kills the container: everything must be durable before it.
    """

    stop_by: float
    end: float

    @classmethod
    def after(cls, seconds: float, now: float, *, flush: float) -> Deadline:
        """Return a deadline `seconds` from now that keeps about `flush` seconds for the flush.

        Args:
            seconds: time until the host kills the container, in seconds.
            now: time of the clock.
            flush: expected duration of the flush, in seconds.
        """
        kept = min(max(flush * 1.25 + 1.0, _LEAST_FOR_FLUSH * seconds), _MOST_FOR_FLUSH * seconds)
        return cls(stop_by=now + seconds - kept, end=now + seconds)

    def sooner(self, other: Deadline) -> Deadline:
        """Return the earlier time of each of two deadlines."""
        return Deadline(min(self.stop_by, other.stop_by), min(self.end, other.end))

    def hurried(self, now: float, script_seconds: float) -> Deadline:
        """Return a deadline with the same end that leaves the script at most `script_seconds`."""
        return Deadline(min(self.stop_by, now + script_seconds), self.end)

    def remaining(self, now: float) -> float:
        """Return the seconds until the end, never negative."""
        return max(0.0, self.end - now)
