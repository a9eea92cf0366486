"""Fence earlier attempts: take the key of the next record of each, so that none of them can commit again."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace

from holdfast.errors import AlreadyExistsError, DamagedError
from holdfast.snapshot import catalog, keys, record_json
from holdfast.snapshot.attempt import Attempt
from holdfast.snapshot.catalog import Catalog
from holdfast.snapshot.record import Fence
from holdfast.snapshot.records import exists, load_record
from holdfast.store import Absent, Part, Store


def fence(store: Store, found: Catalog, mine: Attempt, workers: Executor | None = None) -> Catalog:
    """Put a fence at the key of the next record of every earlier attempt.

    The store decides which is first at that key, a commit of the earlier attempt or the fence. So no attempt commits
    after the snapshot that its successor restores, and a superseded attempt finds the fence at its next commit. A host
    that joined an attempt fences its own earlier attempts; the host that began the attempt has fenced all others.

    Args:
        found: the catalog from before the attempt was claimed.
        workers: threads for the requests of several hosts; None: one request at a time.

    Returns:
        The catalog with the records that are there now.
    """
    numbers = () if mine.hosts else range(max(found.attempts, default=0) + 1, mine.number)  # claimed meanwhile
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
        # A live attempt may have committed and expired the records in between, so that a fence came to lie in a gap.
        found = catalog.refresh(store, found)
        now = _ends(found.snapshots)
        lives = [life for life in lives if life not in put or now.get(life, 0) > ends.get(life, 0) + 1]
    return replace(found, snapshots=tuple(name for name in found.snapshots if name not in fences))


def _ends(names: Sequence[str]) -> dict[tuple[int, str], int]:
    """Return the number of the last record or fence of every attempt and host that has one."""
    ends: dict[tuple[int, str], int] = {}
    for number, sequence, host in map(keys.commit_order, names):
        ends[number, host] = max(sequence, ends.get((number, host), 0))
    return ends


def _attempt(name: str) -> int:
    return keys.commit_order(name)[0]


def _first_open(store: Store, found: Catalog, names: Sequence[str]) -> int:
    """Return the first attempt that may lack a fence: all before the newest record or fence have one."""
    if not names:
        return 1
    try:
        newest = load_record(store, names[-1], found.cache, again=True)  # the restore needs it too
        return _attempt(names[-1]) + isinstance(newest, Fence)
    except DamagedError:
        return _attempt(names[-1])


def _put_fence(store: Store, name: str, mine: Attempt) -> bool:
    """Put a fence; return False when a record has the key."""
    text = record_json.to_json(Fence(mine.number, mine.host, mine.conditional))
    try:
        if not mine.conditional and exists(store, keys.snapshot_key(name)):
            raise AlreadyExistsError(name)
        store.put(
            keys.snapshot_key(name),
            Part.of(text),
            metadata={keys.OWNER: mine.owner},
            condition=Absent(),
        )
    except AlreadyExistsError:
        try:
            return isinstance(load_record(store, name), Fence)
        except DamagedError:
            return False
    return True
