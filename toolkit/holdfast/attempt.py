"""Attempts: one number for one life of a container on a prefix, and an end for the lives before it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
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


def honours_conditions(store: Store, found: Catalog, workers: Executor | None = None) -> bool:
    """Say whether what was put last under a prefix tells that its store has been seen to honour conditions.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        return any(
            catalog.load_record(store, name, found.cache, workers=workers, again=True).conditional
            for name in found.snapshots[-1:]
        )
    except DamagedError:
        return False


def claim(
    store: Store,
    taken: Sequence[int],
    *,
    host: str,
    version: str,
    platform: str,
    started: datetime,
    conditional: bool = False,
) -> Attempt:
    """Claim the number after the highest of `taken`; when another container is faster, the next free one.

    Args:
        store: where the prefix is.
        taken: the numbers of the attempts that are there.
        host: the name under which this host commits.
        version: of holdfast.
        platform: where this host runs.
        started: when, UTC.
        conditional: whether it is known that the store honours conditions. Where it is not, the claim is put twice.

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
    conditional = conditional or put_claim(store, keys.attempt_key(number), {**about, "attempt": number}) is None
    return Attempt(number, host, version, conditional=conditional, token=token)


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


def fence(store: Store, found: Catalog, mine: Attempt, workers: Executor | None = None) -> Catalog:
    """End the lives before this one: put a fence where the next record of each would go.

    Whichever is first there, its commit or our fence, the store decides; so nobody commits behind the snapshot from
    which his successor goes on, and he learns of his end at his next commit. A host that has joined the attempt of
    another ends its own earlier lives; whoever has begun the attempt has ended all others.

    Args:
        store: where the prefix is.
        found: what was found there before the attempt was claimed.
        mine: the claimed attempt.
        workers: where there are many hosts, ends their lives side by side.

    Returns:
        The catalog with the records that are there now.

    Raises:
        StoreError: a fence cannot be put.
    """
    numbers = () if mine.hosts else range(max(found.attempts, default=0) + 1, mine.number)  # claimed since we looked
    side_by_side = workers.map if workers else map
    lives: list[tuple[int, str]] = []
    slots = sorted({mine.slot} if mine.joined else found.slots() | {mine.slot})
    histories = found.histories()
    firsts = side_by_side(lambda slot: _first_open(store, found, histories.get(slot, [])), slots)
    for slot, first in zip(slots, firsts, strict=True):
        own = found.lives(slot) + (list(numbers) if not slot else [])
        lives += [(number, slot) for number in own if first <= number < mine.number]
    fences: set[str] = set()
    while lives:
        ends = _ends(found.snapshots)
        names = {life: keys.snapshot_name(life[0], ends.get(life, 0) + 1, life[1]) for life in lives}
        done = side_by_side(lambda name: _put_fence(store, name, mine), names.values())
        put = {life for life, is_put in zip(names, done, strict=True) if is_put}
        fences |= {names[life] for life in put}
        # Who lives may have gone on and let go of the records in between, so that a fence came to lie in a gap.
        found = catalog.look_again(store, found)
        now = _ends(found.snapshots)
        lives = [life for life in lives if life not in put or now.get(life, 0) > ends.get(life, 0) + 1]
    return replace(found, snapshots=tuple(name for name in found.snapshots if name not in fences))


def _ends(names: Sequence[str]) -> dict[tuple[int, str], int]:
    """Return the number of the last record or fence of every life that has one."""
    ends: dict[tuple[int, str], int] = {}
    for number, sequence, host in map(keys.commit_order, names):
        ends[number, host] = max(sequence, ends.get((number, host), 0))
    return ends


def _attempt(name: str) -> int:
    return keys.commit_order(name)[0]


def _first_open(store: Store, found: Catalog, names: Sequence[str]) -> int:
    """Return the first attempt that may have no fence yet: all before the newest record or fence have one."""
    if not names:
        return 1
    try:
        newest = catalog.load_record(store, names[-1], found.cache, again=True)  # it is what will be restored
        return _attempt(names[-1]) + isinstance(newest, Fence)
    except DamagedError:
        return _attempt(names[-1])


def _put_fence(store: Store, name: str, mine: Attempt) -> bool:
    """Put a fence; return False when there is a record instead."""
    text = Fence(mine.number, mine.host, mine.conditional).to_json()
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
