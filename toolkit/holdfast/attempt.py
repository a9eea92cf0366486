"""Attempts: one number for one life of a container on a prefix, and an end for the lives before it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from holdfast import catalog, checksum, keys, record
from holdfast.catalog import Catalog
from holdfast.errors import AlreadyExistsError, DamagedError
from holdfast.record import Fence
from holdfast.store import Part, Store


@dataclass(frozen=True, slots=True)
class Attempt:
    """A claimed attempt.

    Attributes:
        number: 1, 2, …
        host: the name under which this host commits.
        version: of holdfast.
        conditional: whether the store has shown that it honours conditional writes, which make a fence hold.
        hosts: the names of all hosts that commit under the prefix side by side; none where there is one.
    """

    number: int
    host: str
    version: str
    conditional: bool = True
    hosts: tuple[str, ...] = ()

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


def claim(store: Store, taken: Sequence[int], *, host: str, version: str, platform: str, started: datetime) -> Attempt:
    """Claim the number after the highest of `taken`; when another container is faster, the next free one.

    Raises:
        StoreError: the claim cannot be written.
    """
    number = max(taken, default=0) + 1
    about = describe(host=host, version=version, platform=platform, started=started)
    while not put_claim(store, keys.attempt_key(number), {**about, "attempt": number}):
        number += 1
    # A store that honours the condition refuses the same claim a second time.
    conditional = not put_claim(store, keys.attempt_key(number), {**about, "attempt": number})
    return Attempt(number, host, version, conditional)


def describe(*, host: str, version: str, platform: str, started: datetime) -> dict[str, object]:
    """Return what every claim says of who claims."""
    return {
        "format": record.FORMAT,
        "host": host,
        "platform": platform,
        "started": started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "holdfast": version,
    }


def put_claim(store: Store, key: str, about: Mapping[str, object]) -> bool:
    """Put a claim where there is none; return whether that worked."""
    # The token makes this object different from any other claim, so a repeated request knows its own.
    token = secrets.token_hex(8)
    body = json.dumps({**about, "token": token}).encode()
    try:
        store.put(
            key, Part(body, 0, len(body), checksum.crc64nvme(body)), metadata={keys.OWNER: token}, only_if_absent=True
        )
    except AlreadyExistsError:
        return False
    return True


def fence(store: Store, found: Catalog, mine: Attempt) -> Catalog:
    """End every life before this one: put a fence where its next record would go.

    Whichever is first there, its commit or our fence, the store decides; so nobody commits behind the snapshot from
    which his successor goes on, and he learns of his end at his next commit. The other hosts of this attempt end their
    own lives before it.

    Args:
        store: where the prefix is.
        found: what was found there before the attempt was claimed.
        mine: the claimed attempt.

    Returns:
        The catalog with what the others have committed in the meantime.

    Raises:
        StoreError: a fence cannot be put.
    """
    snapshots = list(found.snapshots)
    numbers = () if mine.hosts else range(max(found.attempts, default=0) + 1, mine.number)  # claimed since we looked
    for slot in found.slots() - (set(mine.hosts) - {mine.host}) | ({""} if not mine.hosts else set()):
        first = _first_open(store, found.records_of(slot))
        lives = found.lives(slot) + (list(numbers) if not slot else [])
        for number in (number for number in lives if first <= number < mine.number):
            sequence = max((_sequence(name) for name in found.records_of(slot) if _attempt(name) == number), default=0)
            while not _put_fence(store, keys.snapshot_name(number, sequence + 1, slot), mine):
                sequence += 1
                snapshots.append(keys.snapshot_name(number, sequence, slot))
    return replace(found, snapshots=tuple(sorted(snapshots, key=keys.commit_order)))


def _attempt(name: str) -> int:
    return keys.commit_order(name)[0]


def _sequence(name: str) -> int:
    return keys.commit_order(name)[1]


def _first_open(store: Store, names: Sequence[str]) -> int:
    """Return the first attempt that may have no fence yet: all before the newest record or fence have one."""
    if not names:
        return 1
    try:
        return _attempt(names[-1]) + isinstance(catalog.load_record(store, names[-1]), Fence)
    except DamagedError:
        return _attempt(names[-1])


def _put_fence(store: Store, name: str, mine: Attempt) -> bool:
    """Put a fence; return False when there is a record instead."""
    text = Fence(mine.number, mine.host).to_json()
    try:
        if not mine.conditional and catalog.exists(store, keys.snapshot_key(name)):
            raise AlreadyExistsError(name)
        store.put(
            keys.snapshot_key(name),
            Part(text, 0, len(text), checksum.crc64nvme(text)),
            metadata={keys.OWNER: mine.owner},
            only_if_absent=True,
        )
    except AlreadyExistsError:
        try:
            return isinstance(catalog.load_record(store, name), Fence)
        except DamagedError:
            return False
    return True
