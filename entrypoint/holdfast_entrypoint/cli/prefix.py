"""A prefix, as the commands look at it that people call by hand."""

from __future__ import annotations

import logging
from concurrent.futures import Executor
from dataclasses import dataclass

from holdfast.errors import DamagedError, NoSnapshotError
from holdfast.snapshot import candidates, ownership
from holdfast.snapshot.candidates import Candidate
from holdfast.snapshot.catalog import Catalog
from holdfast.snapshot.ownership import PlainObject
from holdfast.snapshot.record import Fence, Snapshot
from holdfast.snapshot.records import load_record
from holdfast.store import Store

_LOG = logging.getLogger(__name__)

LOOK = "`holdfast ls URI` shows which there are"


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prefix at one moment.

    Attributes:
        store: where it is.
        found: what a listing found there.
        workers: runs requests side by side.
    """

    store: Store
    found: Catalog
    workers: Executor

    def newest(self, name: str | None = None) -> Candidate | None:
        """Return the named snapshot, or the newest whose records hold; None on an empty prefix.

        Raises:
            NoSnapshotError: there is none of that name.
            DamagedError: the named record does not hold.
        """
        if name is not None:
            known = name in self.found.snapshots
            loaded = load_record(self.store, name, self.found.cache, workers=self.workers) if known else None
            if not isinstance(loaded, Snapshot):
                raise NoSnapshotError(f"there is no snapshot {name!r} here; {LOOK}")
            return Candidate((loaded,))
        for candidate in candidates.newest_first(self.store, self.found, self.workers):
            if isinstance(candidate, Candidate):
                return candidate
            _LOG.warning("%s", candidate)
        return None

    def find_origins(self, chosen: Candidate | None) -> dict[str, PlainObject]:
        """Find out who wrote what lies at the plain keys, given the newest snapshot."""
        recorded = chosen.files().values() if chosen else ()
        adopted = chosen.adopted if chosen else {}
        return ownership.find_origins(self.store, self.found, recorded, (), adopted, None, self.workers)

    def records(self) -> dict[str, Snapshot | DamagedError]:
        """Read every record, oldest first; the fences among them are nobody's business here."""

        def load(name: str) -> Snapshot | Fence | DamagedError:
            try:
                return load_record(self.store, name, self.found.cache)
            except DamagedError as error:
                return error

        loaded = zip(self.found.snapshots, self.workers.map(load, self.found.snapshots), strict=True)
        return {name: entry for name, entry in loaded if not isinstance(entry, Fence)}
