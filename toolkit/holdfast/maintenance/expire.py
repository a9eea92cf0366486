"""Plan which records, objects and uploads of a prefix are deleted, by a retention policy; `collect` deletes them.

A plan has nothing that a kept snapshot needs, that is foreign, or that a live attempt may be about to name: a record
comes first, then what only it needed. What an attempt stored and never named is deleted when a later attempt exists.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from holdfast import names
from holdfast.maintenance.plain_keys import PlainKeys
from holdfast.maintenance.references import Counted, References
from holdfast.maintenance.retention import Retention
from holdfast.snapshot import keys
from holdfast.snapshot.ownership import Origin
from holdfast.store import Upload

_FOREIGN_UPLOAD_AGE = 86400.0
"""Seconds after which an unfinished upload to a plain key, which any program may have begun, counts as abandoned."""
_PACE = 2.0
"""Seconds between two plans of a host, for each host of the attempt: 33 minutes with 1,000 hosts."""
_REPEATS_KEPT = 3
"""Repeated records that stay: an attempt that is about to begin may have chosen one of them."""


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
    """Plan what is deleted under a prefix. Not safe for several threads.

    Args:
        clock: returns seconds since the epoch.
        reported: as `Reported.until`.
        passed_over: snapshots that could not be restored: they do not count as kept.
        protected: snapshots that the policy does not expire.
        resumable: returns the ids of the unfinished uploads that this attempt may resume.
    """

    def __init__(
        self,
        references: References,
        retention: Retention,
        plain: PlainKeys,
        clock: Callable[[], float],
        *,
        reported: Callable[[], float] = lambda: math.inf,
        passed_over: Collection[str] = (),
        protected: Collection[str] = (),
        resumable: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self.waits = False
        """Whether a snapshot stays only because another host of the attempt has not reported yet."""
        self._references = references
        self._slots = references.slots
        self._retention = retention
        self._plain = plain
        self._clock = clock
        self._reported = reported
        self._passed_over = frozenset(passed_over)
        self._protected = frozenset(protected)
        self._resumable = resumable
        self._planned = -math.inf

    def is_time(self) -> bool:
        """Say whether the last plan is long enough ago: many hosts together are to make few requests."""
        return not 0 <= self._clock() - self._planned < _PACE * len(self._slots.hosts)

    def plan_soon(self) -> None:
        """Let it be time now."""
        self._planned = -math.inf

    def plan(self) -> Plan:
        """Return the records that are not kept, and the objects that no other record needs."""
        self._planned = self._clock()
        self._references.read()
        records = self._expired()
        lost = self._references.lost_with(records)
        unneeded = self._references.unneeded
        unneeded = {key: why for key, why in unneeded.items() if self._may_go(key, lost[key])}
        self._references.unneeded = unneeded
        freed = {key: "needed only by deleted snapshots" for key in lost if self._may_go(key, lost[key])}
        return Plan(records, unneeded | freed)

    def repeats(self) -> Plan:
        """Return the records of this attempt that later ones repeat, but the last few of them. Make no request.

        They may be deleted without looking for a fence: a successor takes a later one, which has the same files.
        """
        every = self._references.records.items()
        own = {name: counted for name, counted in every if keys.commit_order(name)[0] == self._slots.attempt}
        return Plan(dict.fromkeys(_repeated(own)[:-_REPEATS_KEPT], "repeated by a later record"))

    def abandoned_uploads(self) -> tuple[Upload, ...]:
        """Return the unfinished uploads that no attempt will resume."""
        resumable = self._resumable()
        listed = self._references.store.unfinished_uploads()
        abandoned = (found.upload for found in listed if self._is_abandoned(found.upload.key, found.began))
        return tuple(upload for upload in abandoned if upload.id not in resumable)

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
        """Return the records that are not kept, and old ones that cannot be restored, each with the reason."""
        counted = self._references.records
        records = {name: counted[name] for name in counted if name not in self._passed_over}
        own = {name: records[name] for name in records if keys.host_of(name) in self._slots.own}
        others = [name for name in records if name not in own and name not in self._protected]
        # Fences are not among them: they stay for ever, since the attempts that they end may be alive.
        damaged = (counted.keys() & self._passed_over) | self._references.unreadable
        past = [name for name in damaged if self._slots.is_long_past(keys.commit_order(name)[0])]
        long_past = dict.fromkeys(sorted(past, key=keys.commit_order), "damaged, of an old attempt")
        histories = [
            self._states({name: own[name] for name in own if keys.host_of(name) == slot}) for slot in self._slots.own
        ]
        kept: list[str] = []
        for states in histories:
            # The newest may all be steps of a flush: they expire no complete snapshot.
            for complete in (True, False):
                kept += self._retention.kept((n, it.began) for n, it in states.items() if it.complete is complete)
        expired = [name for name in own if name not in {*kept, *self._protected}]
        leads = self._slots.rest and self._slots.hosts  # the other hosts wait for the answer
        if not expired and not others and not leads:
            return long_past
        reported = self._reported()
        for states in histories:
            kept += [name for name, it in states.items() if it.began > reported]
            # The newest before that may belong to one snapshot with records of the other hosts.
            kept += [name for name, it in states.items() if it.began <= reported][-1:]
        self.waits = not {*expired}.isdisjoint(kept)
        plan = {name: "no longer kept" for name in expired if name not in kept}
        if self._retention.last is not None and len(kept) >= self._retention.last and reported > -math.inf:
            plan |= dict.fromkeys(others, "of a host that is not in the attempt")
        return plan | long_past

    def _states(self, history: Mapping[str, Counted]) -> dict[str, Counted]:
        """Return the records of a host that count: not repeated ones, nor incomplete ones before a complete one."""
        whole = [position for position, counted in enumerate(history.values()) if counted.complete]
        before = list(history)[: whole[-1] if whole else 0]
        steps = [name for name in before if not history[name].complete] if self._retention.last is not None else []
        passed = {*_repeated(history), *steps}
        return {name: history[name] for name in history if name not in passed}


def _repeated(history: Mapping[str, Counted]) -> list[str]:
    """Return the records of a host that the next one repeats."""
    pairs = pairwise(history)
    return [name for name, after in pairs if history[after].repeated and history[name].began == history[after].began]
