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


def claim(store: Store, taken: Sequence[int], *, host: str, version: str, platform: str, started: datetime) -> Attempt:
    """Claim the number after the highest of `taken`; when another container is faster, the next free one.

    Raises:
        StoreError: the claim cannot be written.
    """
    number = max(taken, default=0) + 1
    about = describe(host=host, version=version, platform=platform, started=started)
    while True:
        token = put_claim(store, keys.attempt_key(number), {**about, "attempt": number})
        if token is not None:
            break
        number += 1
    # A store that honours the condition refuses the same claim a second time.
    another = put_claim(store, keys.attempt_key(number), {**about, "attempt": number})
    return Attempt(number, host, version, conditional=another is None, token=token)


def describe(*, host: str, version: str, platform: str, started: datetime) -> dict[str, object]:
    """Return what every claim says of who claims."""
    return {
        "format": record.FORMAT,
        "host": host,
        "platform": platform,
        "started": started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "holdfast": version,
    }


def put_claim(store: Store, key: str, about: Mapping[str, object]) -> str | None:
    """Put a claim where there is none; return its token, or None where there is one already."""
    # The token makes this object different from any other claim, so a repeated request knows its own.
    token = secrets.token_hex(8)
    body = json.dumps({**about, "token": token}).encode()
    try:
        store.put(
            key, Part(body, 0, len(body), checksum.crc64nvme(body)), metadata={keys.OWNER: token}, only_if_absent=True
        )
    except AlreadyExistsError:
        return None
    return token


def fence(store: Store, found: Catalog, mine: Attempt) -> Catalog:
    """End the lives before this one: put a fence where the next record of each would go.

    Whichever is first there, its commit or our fence, the store decides; so nobody commits behind the snapshot from
    which his successor goes on, and he learns of his end at his next commit. A host that has joined the attempt of
    another ends its own earlier lives; whoever has begun the attempt has ended all others.

    Args:
        store: where the prefix is.
        found: what was found there before the attempt was claimed.
        mine: the claimed attempt.

    Returns:
        The catalog with the records that are there now.

    Raises:
        StoreError: a fence cannot be put.
    """
    numbers = () if mine.hosts else range(max(found.attempts, default=0) + 1, mine.number)  # claimed since we looked
    lives: list[tuple[int, str]] = []
    for slot in {mine.slot} if mine.joined else found.slots() | {mine.slot}:
        first = _first_open(store, found.records_of(slot))
        own = found.lives(slot) + (list(numbers) if not slot else [])
        lives += [(number, slot) for number in own if first <= number < mine.number]
    fences: set[str] = set()
    while lives:
        ends = {life: _end(found.snapshots, *life) for life in lives}
        names = {(number, slot): keys.snapshot_name(number, ends[number, slot] + 1, slot) for number, slot in lives}
        put = {life for life in lives if _put_fence(store, names[life], mine)}
        fences |= {names[life] for life in put}
        # Who lives may have gone on and let go of the records in between, so that a fence came to lie in a gap.
        found = catalog.look_again(store, found)
        lives = [life for life in lives if life not in put or _end(found.snapshots, *life) > ends[life] + 1]
    return replace(found, snapshots=tuple(name for name in found.snapshots if name not in fences))


def _end(names: Sequence[str], attempt: int, slot: str) -> int:
    """Return the number of the last record or fence of a life; 0 when it has none."""
    every = (keys.commit_order(name) for name in names)
    return max((sequence for number, sequence, host in every if (number, host) == (attempt, slot)), default=0)


def _attempt(name: str) -> int:
    return keys.commit_order(name)[0]


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
