"""Account for a flush: what was stored before the deadline, what was not, and the time that was missing."""

from __future__ import annotations

import math
from dataclasses import dataclass

from holdfast.wording import listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What a flush has done so far.

    Attributes:
        stored: checkpoint → bytes of its changed files that are durable.
        missed: checkpoint → bytes of its changed files that are not.
        seconds: since the flush began.
        rate: measured bytes per second; None where too few were sent.
        short: seconds that the missed checkpoints would still take.
    """

    stored: dict[str, int]
    missed: dict[str, int]
    sent: int
    seconds: float
    rate: float | None
    short: float

    @property
    def summary(self) -> str:
        """One sentence for the log: what was stored, what was not, and how fast."""
        text = f"the last flush stored {len(self.stored)} of {len(self.stored) + len(self.missed)} checkpoints"
        speed = f" at {self.rate / 1e6:,.1f} MB/s" if self.rate else ""
        text += f": {self.sent:,} bytes in {self.seconds:.1f} s{speed}"
        if self.missed:
            text += f"; not {listed(self.missed, lambda name: f'{name!r} ({self.missed[name]:,} bytes)')}"
        return text

    @property
    def advice(self) -> str:
        """What to do so that the next flush has the time that this one lacked."""
        seconds = math.ceil(self.short)
        return (
            f"with {seconds} s more it would have been stored: raise the stop time and HOLDFAST_GRACE_SECONDS by that"
        )
