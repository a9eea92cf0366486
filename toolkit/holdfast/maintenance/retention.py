"""Decide which snapshots are kept; `maintenance.collect` deletes the others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from holdfast.errors import ConfigError

_HOUR = 3600.0
_TEXT = re.compile(r"([0-9]{1,6})(?:\+([0-9]{1,4}(?:\.[0-9]+)?)h)?")


@dataclass(frozen=True, slots=True)
class Retention:
    """Which snapshots are kept.

    Attributes:
        last: number of the newest; None: all.
        hours: length of the periods, hours, of each of which the newest is kept too; None: there are no periods.
        mirror: delete in the store what the script deletes, also foreign objects, as SageMaker does; `last` is 1.
    """

    last: int | None = 3
    hours: float | None = None
    mirror: bool = False

    def kept(self, snapshots: Iterable[tuple[str, float]]) -> list[str]:
        """Return the names that are kept of (name, seconds since the epoch of its commit), both oldest first."""
        ordered = list(snapshots)
        if self.last is None:
            return [name for name, _ in ordered]
        kept = {name for name, _ in ordered[-self.last :]}
        if self.hours is not None:
            of_period = {int(when // (self.hours * _HOUR)): name for name, when in ordered}
            kept |= set(of_period.values())
        return [name for name, _ in ordered if name in kept]


def parse(text: str, *, name: str) -> Retention:
    """Parse `3`, `3+6h`, `all` or `mirror`.

    Args:
        name: name of the setting in an error.

    Raises:
        ConfigError: the text is none of these.
    """
    if text == "all":
        return Retention(last=None)
    if text == "mirror":
        return Retention(last=1, mirror=True)
    match = _TEXT.fullmatch(text)
    hours = float(match[2]) if match and match[2] else None
    if match is None or int(match[1]) == 0 or hours == 0:
        raise ConfigError(
            f"{name} must be the number of snapshots to keep (3), the same and one for every so many hours (3+6h), "
            f"all, or mirror; it is {text!r}"
        )
    return Retention(last=int(match[1]), hours=hours)
