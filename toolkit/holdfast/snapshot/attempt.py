"""The attempt: one life of a container on a prefix."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A claimed attempt.

    Attributes:
        conditional: whether the store has shown that it honours conditional writes, which make a fence hold.
        hosts: the names of all hosts that commit under the prefix; empty for a single host.
        token: random; distinguishes the records of two containers with the same number, which only a store without
            conditional writes allows.
        joined: whether another host of the same start has begun it.
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
        """The host's name where it is part of keys, with several hosts under the prefix; empty otherwise."""
        return self.host if self.hosts else ""

    @property
    def leads(self) -> bool:
        """Whether this host is the first one, which is responsible for the files of no host."""
        return not self.hosts or self.host == self.hosts[0]

    def leaves(self, host: str) -> bool:
        """Say whether the files of a host are left to another host of the attempt."""
        return host != self.slot and (host in self.hosts or not self.leads)

    @property
    def owner(self) -> str:
        """The value of `keys.OWNER` in the metadata of the attempt's objects."""
        return f"{self.number}@{self.slot}" if self.slot else str(self.number)
