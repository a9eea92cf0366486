"""Attempts: one number for one life of a container on a prefix, and an end for the lives before it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from datetime import datetime

from holdfast.errors import AlreadyExistsError, DamagedError
from holdfast.snapshot import catalog, keys, record_json
from holdfast.snapshot.attempt import Attempt
from holdfast.snapshot.catalog import Catalog
from holdfast.store import Absent, Part, Store


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
        "format": record_json.FORMAT,
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
        store.put(key, Part.of(body), metadata={keys.OWNER: token}, condition=Absent())
    except AlreadyExistsError:
        return None
    return token
