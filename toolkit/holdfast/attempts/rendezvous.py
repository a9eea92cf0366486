"""Join one attempt and one snapshot on several hosts that start together.

The hosts need nothing but the store: the first one claims the attempt and names in the claim what is restored. The
others find that claim and join it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from holdfast.attempts.claim import Claimant, honours_conditions, put_claim
from holdfast.errors import NoSnapshotError
from holdfast.snapshot import candidates, keys
from holdfast.snapshot.attempt import Attempt
from holdfast.snapshot.candidates import Candidate
from holdfast.snapshot.catalog import Catalog, read_catalog
from holdfast.snapshot.records import exists, read_whole
from holdfast.store import Store

_LOG = logging.getLogger(__name__)

WINDOW = 600.0
"""Seconds after its start in which an attempt may be joined, where no run id tells starts apart."""


@dataclass(frozen=True, slots=True)
class Group:
    """Hosts that start together on one prefix.

    Attributes:
        hosts: their names; the first host leads.
        run: id of this start, the same on all its hosts; None where there is none.
    """

    hosts: tuple[str, ...]
    run: str | None = None


def join(
    store: Store,
    group: Group,
    claimant: Claimant,
    *,
    clock: Callable[[], datetime],
    workers: Executor,
    passed_over: Sequence[str] = (),
) -> tuple[Attempt, Catalog, tuple[str, ...]]:
    """Join the attempt that another host of the group has begun, or begin one.

    Args:
        group: all hosts.
        claimant: this host.
        passed_over: records that did not verify; an attempt that began from them is not joined.

    Returns:
        The attempt, the catalog of the prefix, and the names of the records that all hosts restore.

    Raises:
        NoSnapshotError: there are records, and nothing that can be restored.
    """
    while True:
        found = read_catalog(store)
        number = max(found.attempts, default=0)
        about, host = claimant.describe(clock()), claimant.host
        claim = read_claim(store, number) if number else {}
        joined = (number, host) not in found.joined and _is_ours(claim, group, passed_over, clock())
        if not joined:
            conditional = honours_conditions(store, found)
            base = list(_newest_names(store, found, workers, passed_over, claim))
            number += 1
            claim = {
                **about, "attempt": number, "hosts": list(group.hosts), "run": group.run, "base": base,
                "conditional": conditional,
            }  # fmt: skip
            if put_claim(store, keys.attempt_key(number), claim) is None:
                continue  # another host was faster: join its attempt
            claim = read_claim(store, number)  # without conditional writes, that of another host may lie there
        token = put_claim(store, keys.attempt_key(number, host), {**about, "attempt": number})
        if token is None or exists(store, keys.attempt_key(number + 1)):
            continue  # another host began the next attempt, and may not have seen this one
        # Whether the store honours conditions is in the claim, or shows when the same claim is put once more.
        conditional = claim.get("conditional") is True or (
            put_claim(store, keys.attempt_key(number, host), {**about, "attempt": number}) is None
        )
        mine = Attempt(
            number=number,
            host=host,
            version=claimant.version,
            conditional=conditional,
            hosts=group.hosts,
            token=token,
            joined=joined,
        )
        # The host that begins fences all hosts, also those that have joined since the listing.
        return mine, found if joined else read_catalog(store), tuple(claim["base"])


def read_claim(store: Store, number: int) -> dict[str, Any]:
    """Return the claim of an attempt; empty when it does not parse."""
    try:
        claim = json.loads(read_whole(store, keys.attempt_key(number)))
    except ValueError:
        return {}
    return claim if isinstance(claim, dict) else {}


def _is_ours(claim: dict[str, Any], group: Group, passed_over: Sequence[str], now: datetime) -> bool:
    """Return whether a host of the group began this attempt for the same start."""
    base = claim.get("base")
    if claim.get("hosts") != list(group.hosts) or not isinstance(base, list) or set(base) & set(passed_over):
        return False
    if group.run is not None or claim.get("run") is not None:
        return claim.get("run") == group.run
    try:
        return (now - datetime.fromisoformat(claim["started"])).total_seconds() < WINDOW
    except (KeyError, TypeError, ValueError):
        return False


def _newest_names(
    store: Store,
    found: Catalog,
    workers: Executor,
    passed_over: Sequence[str],
    claim: Mapping[str, Any],
) -> tuple[str, ...]:
    """Return the names of the newest records that can be restored together; none on an empty prefix."""
    damaged = bool(passed_over) or bool(claim.get("base"))
    for candidate in candidates.newest_first(store, found, workers, passed_over=passed_over):
        if isinstance(candidate, Candidate):
            return candidate.names
        damaged = True
        _LOG.warning("passed over: %s", candidate)
    if damaged:
        raise NoSnapshotError(
            "no snapshot under the prefix verifies: `holdfast verify --all URI` says what is wrong; to start from "
            "scratch on purpose, use another prefix"
        )
    if found.snapshots:
        _LOG.warning("no checkpoint was finished by all hosts: a fresh start")
    return ()
