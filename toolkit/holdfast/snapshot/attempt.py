"""Attempt: which life of a container on a prefix this is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A claimed attempt.

    Attributes:
        number: 1, 2, …
        host: the name under which this host commits.
        version: of holdfast.
        conditional: whether the store has shown that it honours conditional writes, which make a fence hold.
        hosts: the names of all hosts that commit under the prefix side by side; none where there is one.
        joined: whether another host of the same start has begun it.
        token: random; tells this attempt's records from those of another container that has the same number, which
            only a store without conditional writes lets happen.
    """

    number: int
    host: str
    version: str
    conditional: bool = True
    hosts: tuple[str, ...] = ()
    token: str = ""
    joined: bool = False

    @property
    def slot(self) -> str:
        """The host's name where it is part of keys: where many hosts commit under the prefix."""
        return self.host if self.hosts else ""

    @property
    def leads(self) -> bool:
        """Whether this host is the one that looks after what belongs to none: the first one."""
        return not self.hosts or self.host == self.hosts[0]

    @property
    def owner(self) -> str:
        """What our objects carry as `keys.OWNER`."""
        return f"{self.number}@{self.slot}" if self.slot else str(self.number)
