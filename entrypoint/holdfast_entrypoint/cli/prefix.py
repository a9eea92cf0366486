"""A prefix as the commands read it."""

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

LIST = "`holdfast ls URI` lists the snapshots"


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prefix at one moment.

    Attributes:
        store: store of the prefix.
        found: records and objects of one listing.
        workers: threads for requests.
    """

    store: Store
    found: Catalog
    workers: Executor

    def newest(self, name: str | None = None) -> Candidate | None:
        """Return the named snapshot, or the newest whose records verify; None on an empty prefix.

        Raises:
            NoSnapshotError: there is no snapshot of that name.
            DamagedError: the named record does not verify.
        """
        if name is not None:
            known = name in self.found.snapshots
            loaded = load_record(self.store, name, self.found.cache, workers=self.workers) if known else None
            if not isinstance(loaded, Snapshot):
                raise NoSnapshotError(f"no snapshot {name!r} under this prefix; {LIST}")
            return Candidate((loaded,))
        for candidate in candidates.newest_first(self.store, self.found, self.workers):
            if isinstance(candidate, Candidate):
                return candidate
            _LOG.warning("%s", candidate)
        return None

    def find_origins(self, chosen: Candidate | None) -> dict[str, PlainObject]:
        """Return the objects at the plain keys with their origin, given the newest snapshot."""
        recorded = chosen.files().values() if chosen else ()
        adopted = chosen.adopted if chosen else {}
        return ownership.find_origins(self.store, self.found, recorded, (), adopted, None, self.workers)

    def records(self) -> dict[str, Snapshot | DamagedError]:
        """Return every record, oldest first, without the fences; for a damaged one its error."""

        def load(name: str) -> Snapshot | Fence | DamagedError:
            try:
                return load_record(self.store, name, self.found.cache)
            except DamagedError as error:
                return error

        loaded = zip(self.found.snapshots, self.workers.map(load, self.found.snapshots), strict=True)
        return {name: entry for name, entry in loaded if not isinstance(entry, Fence)}
