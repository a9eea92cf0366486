"""The ledger: what made it before the deadline and what did not, and what would have been needed for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from holdfast.wording import listed


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a flush has done so far.

    Attributes:
        stored: checkpoint → bytes of its changed files, which are durable.
        missed: the same of those that are not.
        sent: bytes that travelled.
        seconds: since it began.
        rate: bytes per second that were measured; None where too few travelled.
        short: seconds that what was missed would still take; 0 when nothing was.
    """

    stored: dict[str, int]
    missed: dict[str, int]
    sent: int
    seconds: float
    rate: float | None
    short: float

    @property
    def summary(self) -> str:
        """One sentence for the log: what was stored and what not, how fast, and what to do about it."""
        text = f"the last flush stored {len(self.stored)} of {len(self.stored) + len(self.missed)} checkpoints"
        speed = f" at {self.rate / 1e6:,.1f} MB/s" if self.rate else ""
        text += f": {self.sent:,} bytes in {self.seconds:.1f} s{speed}"
        if self.missed:
            text += f"; not {listed(self.missed, lambda name: f'{name!r} ({self.missed[name]:,} bytes)')}"
        return text

    @property
    def advice(self) -> str:
        """What to do so that the next one makes it, where time was what was missing."""
        seconds = math.ceil(self.short)
        return (
            f"with {seconds} s more it would have been stored: raise the stop time and HOLDFAST_GRACE_SECONDS by that"
        )
