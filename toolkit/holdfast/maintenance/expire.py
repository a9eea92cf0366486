"""Expire: which records, objects and uploads of a prefix go, by a retention policy. The plan only; `collect` deletes.

Nothing is planned to go that a kept snapshot needs, that is foreign, or that a live attempt may be about to name: a
snapshot's record goes first, then what only it needed; what an attempt stored and never named goes when a later attempt
exists.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import pairwise

from holdfast import names
from holdfast.maintenance.plain_keys import PlainKeys
from holdfast.maintenance.references import Counted, References
from holdfast.maintenance.retention import Retention
from holdfast.snapshot import keys
from holdfast.snapshot.candidates import SKEW
from holdfast.snapshot.ownership import Origin
from holdfast.snapshot.record import Snapshot
from holdfast.store import Upload

_FOREIGN_UPLOAD_AGE = 86400.0
"""Seconds after which an unfinished upload to a plain key, whoever began it, counts as abandoned."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be deleted, in this order.

    Attributes:
        records: names → why, oldest first.
        objects: keys → why: content, lists and claims.
        uploads: unfinished uploads.
    """

    records: Mapping[str, str] = field(default_factory=dict)
    objects: Mapping[str, str] = field(default_factory=dict)
    uploads: tuple[Upload, ...] = ()


class Expirer:
    """Plan what a prefix no longer needs. Not safe for several threads.

    Args:
        references: what the snapshots need.
        retention: which snapshots are kept.
        plain: what lies at the plain keys.
        workers: runs the requests.
        clock: seconds since the epoch.
        passed_over: snapshots that could not be restored: they do not count as kept ones.
        protected: snapshots that stay whatever the policy says.
        resumable: returns the ids of the unfinished uploads with which this attempt may go on.
    """

    def __init__(
        self,
        references: References,
        retention: Retention,
        plain: PlainKeys,
        workers: Executor,
        clock: Callable[[], float],
        *,
        passed_over: Collection[str] = (),
        protected: Collection[str] = (),
        resumable: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self.waits = False
        """Whether something stays only because another host of the attempt has not yet said what it has."""
        self._references = references
        self._slots = references.slots
        self._retention = retention
        self._plain = plain
        self._workers = workers
        self._clock = clock
        self._passed_over = frozenset(passed_over)
        self._protected = frozenset(protected)
        self._resumable = resumable

    def plan(self) -> Plan:
        """Return the records that are not kept, and the objects that no other record needs.

        Raises:
            StoreError: a record cannot be read.
        """
        self._references.read()
        records = self._expired()
        lost = self._references.lost_with(records)
        unneeded = self._references.unneeded
        unneeded = {key: why for key, why in unneeded.items() if self._may_go(key, lost[key])}
        self._references.unneeded = unneeded
        freed = {key: "needed only by snapshots that go" for key in lost if self._may_go(key, lost[key])}
        return Plan(records, unneeded | freed)

    def abandoned_uploads(self) -> tuple[Upload, ...]:
        """Return the unfinished uploads that no attempt goes on with.

        Raises:
            StoreError: the store does not list them.
        """
        resumable = self._resumable()
        found = (it for it in self._references.store.unfinished_uploads() if it.upload.id not in resumable)
        return tuple(it.upload for it in found if self._is_abandoned(it.upload.key, it.began))

    def _is_abandoned(self, key: str, began: float) -> bool:
        if self._references.is_nested(key):
            return False
        if keys.attempt_of_content(key):
            return self._slots.has_left(key)
        return self._slots.rest and self._clock() - began > _FOREIGN_UPLOAD_AGE

    def _may_go(self, key: str, lost: int) -> bool:
        if self._references.count(key) > lost:
            return False
        if key.startswith(keys.PRESERVED):
            return key in self._references.preserved
        if key.startswith(f"{names.OWN_DIRECTORY}/"):
            return True
        origin = self._plain.origin(key)
        return origin is Origin.OURS or (origin is Origin.ADOPTED and self._retention.mirror)

    def _expired(self) -> dict[str, str]:
        """Return the records that go: of snapshots that are not kept, and old ones that restore nothing."""
        records = {name: it for name, it in self._references.records.items() if name not in self._passed_over}
        own = {name: it for name, it in records.items() if keys.host_of(name) in self._slots.own}
        others = [name for name in records if name not in own and name not in self._protected]
        # Fences are not among them: they stay for ever, since the attempts that they end may be alive.
        damaged = (self._references.records.keys() & self._passed_over) | self._references.unreadable
        past = sorted(
            (it for it in damaged if self._slots.is_long_past(keys.commit_order(it)[0])), key=keys.commit_order
        )
        long_past = dict.fromkeys(past, "does not hold, of an attempt long past")
        histories = [
            self._states({name: it for name, it in own.items() if keys.host_of(name) == slot})
            for slot in self._slots.own
        ]
        kept: list[str] = []
        for states in histories:
            # The newest may all be steps: they push out no snapshot for which nothing was held back.
            for complete in (True, False):
                kept += self._retention.kept((n, it.began) for n, it in states.items() if it.complete is complete)
        expired = [name for name in own if name not in {*kept, *self._protected}]
        if not expired and not others:
            return long_past  # what the other hosts have said need not be asked: a request for each of them
        spoken = self._spoken_until()
        for states in histories:
            kept += [name for name, it in states.items() if it.began > spoken]
            # The newest before that is what the others' snapshots may belong to.
            kept += [name for name, it in states.items() if it.began <= spoken][-1:]
        self.waits = not {*expired}.isdisjoint(kept)
        plan = {name: "no longer kept" for name in expired if name not in kept}
        if self._retention.last is not None and len(kept) >= self._retention.last and spoken > -math.inf:
            plan |= dict.fromkeys(others, "of a host that commits no longer")
        return plan | long_past

    def _states(self, history: Mapping[str, Counted]) -> dict[str, Counted]:
        """Return the records of a host that count.

        Not those after which the host only said once more that it has the same files, and not the steps of a flush and
        the like, once there is one behind them for which nothing was held back.
        """
        said_again = {
            name for (name, it), (_, after) in pairwise(history.items()) if after.repeated and it.began == after.began
        }
        whole = [position for position, it in enumerate(history.values()) if it.complete]
        before = list(history)[: whole[-1] if whole else 0]
        steps = {name for name in before if not history[name].complete} if self._retention.last is not None else set()
        return {name: it for name, it in history.items() if name not in said_again | steps}

    def _spoken_until(self) -> float:
        """Return until when every host has said what it has, seconds since the epoch; infinity where one is alone."""
        if not self._slots.hosts:
            return math.inf
        listed = self._references.store.list(f"{keys.COMMITS}{self._slots.attempt:06d}-")
        found = sorted((keys.name_in(info.key) for info in listed), key=keys.commit_order, reverse=True)
        spoken = self._workers.map(
            lambda host: self._spoke([name for name in found if keys.host_of(name) == host]), self._slots.hosts
        )
        return min(spoken) - SKEW

    def _spoke(self, newest_first: Iterable[str]) -> float:
        """Return when a host last said that what it has stored is all it has."""
        for name in newest_first:
            if (counted := self._references.records.get(name)) and counted.complete:
                return counted.created
            loaded = self._references.load(name) if counted is None else None
            if isinstance(loaded, Snapshot) and loaded.complete:
                return loaded.created.timestamp()
        return -math.inf
