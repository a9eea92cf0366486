"""Until when every host of an attempt has reported: the first host asks, the others read its answer."""

from __future__ import annotations

import json
import math
from concurrent.futures import Executor
from datetime import UTC, datetime

from holdfast.errors import DamagedError, NotFoundError
from holdfast.maintenance.references import References
from holdfast.snapshot import keys, record_json
from holdfast.snapshot.attempt import Attempt
from holdfast.snapshot.candidates import SKEW
from holdfast.snapshot.record import Snapshot
from holdfast.snapshot.records import read_whole
from holdfast.store import Part, Store


class Reported:
    """The moment until which every host has reported: each has a later record that is complete."""

    def __init__(self, store: Store, attempt: Attempt, references: References, workers: Executor) -> None:
        self._store = store
        self._attempt = attempt
        self._references = references
        self._workers = workers
        self._put_last = -math.inf

    def until(self) -> float:
        """Return the moment, less the clocks' difference, in seconds since the epoch.

        Infinity for a host that is alone; minus infinity while there is no answer. An old answer stays true: a newer
        one only lets more be deleted.
        """
        if not self._attempt.hosts:
            return math.inf
        if not self._attempt.leads:
            return self._read()
        until = self._ask()
        if until > self._put_last:
            self._put(until)
            self._put_last = until
        return until

    def _ask(self) -> float:
        listed = self._store.list(f"{keys.COMMITS}{self._attempt.number:06d}-")
        newest_first = sorted((keys.name_in(info.key) for info in listed), key=keys.commit_order, reverse=True)
        names: dict[str, list[str]] = {host: [] for host in self._attempt.hosts}
        for name in newest_first:
            names.get(keys.host_of(name), []).append(name)
        return min(self._workers.map(self._last_report, names.values())) - SKEW

    def _last_report(self, newest_first: list[str]) -> float:
        for name in newest_first:
            record = self._references.records.get(name) or self._load(name)
            if record is not None and record.complete:
                return record.created.timestamp()
        return -math.inf

    def _load(self, name: str) -> Snapshot | None:
        """Read a record without its lists; None for a damaged one and for a fence."""
        try:
            loaded = record_json.from_json(read_whole(self._store, keys.snapshot_key(name)), name=name)
        except (DamagedError, NotFoundError):
            return None
        return loaded if isinstance(loaded, Snapshot) else None

    def _put(self, until: float) -> None:
        moment = datetime.fromtimestamp(until, UTC).isoformat()
        value = {"format": record_json.FORMAT, "attempt": self._attempt.number, "until": moment}
        self._store.put(keys.REPORTED, Part.of(json.dumps(value).encode()), metadata={keys.OWNER: self._attempt.owner})

    def _read(self) -> float:
        try:
            value = json.loads(read_whole(self._store, keys.REPORTED))
            if (value["format"], value["attempt"]) == (record_json.FORMAT, self._attempt.number):
                return datetime.fromisoformat(value["until"]).timestamp()
        except (NotFoundError, ValueError, TypeError, KeyError):
            pass
        return -math.inf
