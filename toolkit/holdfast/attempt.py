"""Attempts: one number for one life of a container on a prefix, and an end for the lives before it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
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
    """

    number: int
    host: str
    version: str
    conditional: bool = True

    @property
    def slot(self) -> str:
        """The host's name where it is part of keys: where many hosts commit under the prefix."""
        return ""

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
    about = {
        "format": record.FORMAT,
        "host": host,
        "platform": platform,
        "started": started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "holdfast": version,
    }
    while not _put_claim(store, {**about, "attempt": number}):
        number += 1
    # A store that honours the condition refuses the same claim a second time.
    conditional = not _put_claim(store, {**about, "attempt": number})
    return Attempt(number, host, version, conditional)


def _put_claim(store: Store, about: dict[str, object]) -> bool:
    """Put a claim where there is none; return whether that worked."""
    # The token makes this object different from any other claim, so a repeated request knows its own.
    token = secrets.token_hex(8)
    body = json.dumps({**about, "token": token}).encode()
    key = keys.attempt_key(int(str(about["attempt"])))
    part = Part(body, 0, len(body), checksum.crc64nvme(body))
    try:
        store.put(key, part, metadata={keys.OWNER: token}, only_if_absent=True)
    except AlreadyExistsError:
        return False
    return True


def fence(store: Store, found: Catalog, mine: Attempt) -> Catalog:
    """End every attempt before this one: put a fence where its next record would go.

    Whichever is first there, its commit or our fence, the store decides; so no attempt commits behind the snapshot
    from which its successor goes on, and it learns of its end at its next commit.

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
    for number in range(_first_open(store, found), mine.number):
        taken = [name for name in snapshots if keys.parse_name(name)[:1] == (number,)]  # type: ignore[index]
        sequence = max((keys.parse_name(name)[1] for name in taken), default=0) + 1  # type: ignore[index]
        while not _put_fence(store, keys.snapshot_name(number, sequence), mine):
            snapshots.append(keys.snapshot_name(number, sequence))
            sequence += 1
    return replace(found, snapshots=tuple(snapshots))


def _first_open(store: Store, found: Catalog) -> int:
    """Return the first attempt that may have no fence yet: all before the newest record or fence have one."""
    if not found.snapshots:
        return 1
    newest = found.snapshots[-1]
    attempt = int(newest.partition("-")[0])
    try:
        return attempt + isinstance(catalog.load_record(store, newest), Fence)
    except DamagedError:
        return attempt


def _put_fence(store: Store, name: str, mine: Attempt) -> bool:
    """Put a fence; return False when there is a record instead."""
    text = Fence(mine.number, mine.host).to_json()
    try:
        if not mine.conditional and catalog.exists(store, keys.snapshot_key(name)):
            raise AlreadyExistsError(name)
        store.put(
            keys.snapshot_key(name),
            Part(text, 0, len(text), checksum.crc64nvme(text)),
            metadata={keys.OWNER: str(mine.number)},
            only_if_absent=True,
        )
    except AlreadyExistsError:
        try:
            return isinstance(catalog.load_record(store, name), Fence)
        except DamagedError:
            return False
    return True
