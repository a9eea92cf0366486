"""Claim the next attempt number under a prefix."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime

from holdfast.errors import AlreadyExistsError, DamagedError
from holdfast.snapshot import keys, record_json
from holdfast.snapshot.attempt import Attempt
from holdfast.snapshot.catalog import Catalog
from holdfast.snapshot.records import load_record
from holdfast.store import Absent, Part, Store


@dataclass(frozen=True, slots=True)
class Claimant:
    """The host that claims an attempt.

    Attributes:
        host: the name under which it commits.
        version: of holdfast.
        platform: where it runs.
    """

    host: str
    version: str
    platform: str

    def describe(self, started: datetime) -> dict[str, object]:
        """Return the fields that every claim of this host has; `started` is UTC."""
        return {
            "format": record_json.FORMAT,
            "host": self.host,
            "platform": self.platform,
            "started": started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "holdfast": self.version,
        }


def honours_conditions(store: Store, found: Catalog, workers: Executor | None = None) -> bool:
    """Return whether the newest record says that its store was seen to honour conditional writes."""
    try:
        return any(
            load_record(store, name, found.cache, workers=workers, again=True).conditional
            for name in found.snapshots[-1:]
        )
    except DamagedError:
        return False


def claim(
    store: Store, taken: Sequence[int], claimant: Claimant, *, started: datetime, conditional: bool = False
) -> Attempt:
    """Claim the number after the highest of `taken`, or the next free one when another container is faster.

    Args:
        taken: numbers of the attempts under the prefix.
        claimant: this host.
        started: start of this attempt, UTC.
        conditional: whether the store is known to honour conditional writes. If not, the claim is put twice.
    """
    number = max(taken, default=0) + 1
    about = claimant.describe(started)
    while True:
        token = put_claim(store, keys.attempt_key(number), {**about, "attempt": number})
        if token is not None:
            break
        number += 1
    # A store that honours the condition refuses the same claim a second time.
    conditional = conditional or put_claim(store, keys.attempt_key(number), {**about, "attempt": number}) is None
    return Attempt(number=number, host=claimant.host, version=claimant.version, conditional=conditional, token=token)


def put_claim(store: Store, key: str, about: Mapping[str, object]) -> str | None:
    """Put a claim on the condition that the key is free; return its token, or None where the key is taken."""
    # The token makes this object different from any other claim, so a repeated request recognises its own.
    token = secrets.token_hex(8)
    body = json.dumps({**about, "token": token}).encode()
    try:
        store.put(key, Part.of(body), metadata={keys.OWNER: token}, condition=Absent())
    except AlreadyExistsError:
        return None
    return token
