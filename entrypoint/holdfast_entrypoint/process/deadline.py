"""The deadline: one truth about how long there is, and who may spend it."""

from __future__ import annotations

from dataclasses import dataclass

# Whatever is measured, the script gets some of the time and the flush gets some.
_LEAST_FOR_FLUSH = 0.2
_MOST_FOR_FLUSH = 0.6


@dataclass(frozen=True, slots=True)
class Deadline:
    """When it is over. Times are seconds of one monotonic clock.

    Attributes:
        stop_by: when the script must have ended; then it is killed.
        end: when everything must be durable; then the host kills us.
    """

    stop_by: float
    end: float

    @classmethod
    def after(cls, seconds: float, now: float, *, flush: float) -> Deadline:
        """Return a deadline `seconds` from now that keeps about `flush` seconds for the flush.

        Args:
            seconds: until the host kills us.
            now: the clock.
            flush: seconds that storing what is dirty is expected to take.
        """
        kept = min(max(flush * 1.25 + 1.0, _LEAST_FOR_FLUSH * seconds), _MOST_FOR_FLUSH * seconds)
        return cls(stop_by=now + seconds - kept, end=now + seconds)

    def sooner(self, other: Deadline) -> Deadline:
        """Return the deadline that keeps to both."""
        return Deadline(min(self.stop_by, other.stop_by), min(self.end, other.end))

    def hurried(self, now: float, script_seconds: float) -> Deadline:
        """Return the same end with at most `script_seconds` more for the script."""
        return Deadline(min(self.stop_by, now + script_seconds), self.end)

    def remaining(self, now: float) -> float:
        """Return the seconds until the end, never negative."""
        return max(0.0, self.end - now)
