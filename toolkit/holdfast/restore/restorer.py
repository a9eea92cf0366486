"""Restore the newest snapshot that verifies, and files of other writers, into the checkpoint directory.

Nothing in the checkpoint directory changes before everything that is needed now has been fetched and checked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, wait
from dataclasses import dataclass, replace
from pathlib import Path

from holdfast.errors import DamagedError, NoSnapshotError, NotFoundError
from holdfast.local.recover import recover
from holdfast.local.unsent import UnsentNote
from holdfast.names import checkpoint_of
from holdfast.restore.adoption import adoptable_files
from holdfast.restore.base import Base
from holdfast.restore.placement import Placement
from holdfast.restore.plan import Mode, PlannedCheckpoint, split
from holdfast.restore.request import EVERYTHING, Request, Restored
from holdfast.restore.staging import Staging
from holdfast.snapshot.candidates import Candidate, newest_first
from holdfast.snapshot.catalog import Catalog
from holdfast.snapshot.ownership import Origin, PlainObject, find_origins
from holdfast.snapshot.record import FileEntry, Snapshot
from holdfast.stop import NEVER, StopToken
from holdfast.store import Store
from holdfast.wording import listed

_LOG = logging.getLogger(__name__)

_Fetched = tuple[list[PlannedCheckpoint], list[PlannedCheckpoint], dict[str, int]]
"""Checkpoints to place, deferred ones, and the checksums of the files to place, by path."""
_LOOK = 0.2
"""Seconds between two looks at the stop token while the listing is awaited."""


def restore(
    store: Store,
    catalog: Catalog,
    directory: Path,
    request: Request = EVERYTHING,
    *,
    workers: Executor,
    progress: Callable[[int, int], None] = lambda done, total: None,
    stop: StopToken = NEVER,
) -> Restored:
    """Restore the newest snapshot that verifies, or what is requested.

    Raises:
        NoSnapshotError: there are snapshots, and none verifies. The directory is as it was.
        DiskFullError: the directory has no room for the snapshot.
        StoppedError: stopped between two parts.
    """
    directory.mkdir(parents=True, exist_ok=True)
    staging = Staging(store, directory, workers, progress, stop)
    restoring = _Restoring(store, catalog, staging, Placement(directory, staging.root), request, workers, stop)
    passed_over: list[str] = []
    failures = 0
    candidates = newest_first(store, catalog, workers) if request.candidates is None else request.candidates
    for candidate in candidates:
        try:
            if isinstance(candidate, DamagedError):
                raise candidate
            return restoring.finish(candidate, passed_over)
        except (DamagedError, NotFoundError) as error:
            failures += 1
            passed_over += candidate.names if isinstance(candidate, Candidate) else ()
            _LOG.warning("snapshot passed over, the one before it is tried: %s", error)
    if failures:
        raise NoSnapshotError(
            f"no snapshot under the prefix verifies ({failures} tried); the checkpoint directory is untouched. "
            "`holdfast verify --all URI` says what is wrong, `holdfast pull --checkpoint NAME URI DIRECTORY` fetches "
            "what is whole; to start from scratch on purpose, use another prefix"
        )
    return restoring.finish(Candidate(()), passed_over)


@dataclass(frozen=True, slots=True)
class _Restoring:
    """One restore, tried with one candidate after the other."""

    store: Store
    catalog: Catalog
    staging: Staging
    placement: Placement
    request: Request
    workers: Executor
    stop: StopToken

    def finish(self, snapshot: Candidate, passed_over: Sequence[str]) -> Restored:
        """Fetch a snapshot and the files of other writers, then place everything."""
        for path, hosts in snapshot.conflicts().items():
            _LOG.warning(
                "%r is different on %s: each gets its own, the others that of %s; let every rank write under a name of "
                "its own", path, " and ".join(hosts), hosts[0],
            )  # fmt: skip
        return self._finish(snapshot, [] if passed_over else self._recovered(snapshot.records), passed_over)

    def _recovered(self, records: Sequence[Snapshot]) -> list[UnsentNote]:
        """Return the unsent checkpoints of an earlier attempt in this directory that are still valid."""
        attempt = self.request.attempt
        alone = attempt and not attempt.hosts and len(records) <= 1 and not any(record.hosts for record in records)
        if self.request.unsent is None or self.request.checkpoint is not None or not alone:
            return []
        return recover(self.request.unsent, records[0] if records else None, self.catalog.attempts)

    def _finish(self, snapshot: Candidate, kept: Sequence[UnsentNote], passed_over: Sequence[str]) -> Restored:
        attempt = self.request.attempt
        own, theirs = snapshot.split(attempt)
        recorded = theirs | own
        unsent = {name for note in kept for name in note.checkpoints}
        planned = self._chosen({path: entry for path, entry in recorded.items() if checkpoint_of(path) not in unsent})
        fetched, failure = self._fetch_and_list(planned)
        plain = find_origins(
            self.store, self.catalog, own.values(), theirs.values(), snapshot.adopted, attempt, self.workers
        )
        adoptable = self._chosen(adoptable_files(plain, recorded)) if self.request.adopt else {}
        names_of_others = set(map(checkpoint_of, adoptable))
        contested = {name for note in kept if note.checkpoints & names_of_others for name in note.checkpoints}
        if contested:
            _LOG.warning("%s: not used, another writer has stored objects under the same name", listed(contested))
            kept = [note for note in kept if note.checkpoints.isdisjoint(contested)]
            return self._finish(snapshot, kept, passed_over)
        if adoptable:  # staged files are not fetched again; the failure may be of a file that another writer replaced
            planned |= adoptable
            fetched = self._fetch(planned)
        elif failure is not None:
            raise failure
        now, later, sums = fetched
        deferred = {path: file for checkpoint in later for path, file in checkpoint.files.items()}
        if planned or kept:
            self.placement.place(now, deferred, {state.path for note in kept for state in note.states})
        adopted = {path: replace(file, crc64nvme=sums[path]) for path, file in adoptable.items() if path in sums}
        entries = {path: recorded[path] for path in recorded if path in planned or checkpoint_of(path) in unsent}
        base = replace(
            self._base(snapshot, entries, adopted, theirs.keys() - own.keys(), plain),
            passed_over=tuple(passed_over),
            deferred=frozenset(deferred),
            unadopted={file.key: file.etag for path, file in deferred.items() if path in adoptable},
            unsent=frozenset(path for note in kept for path in note.changed),
        )
        return Restored(
            snapshot=snapshot if snapshot.records else None,
            base=base,
            foreign=frozenset(adopted),
            bytes_fetched=self.staging.bytes_fetched,
            checkpoints=tuple(now),
            later=tuple(later) if self.request.mode is Mode.LATEST else (),
            kept=tuple(kept),
        )

    def _base(
        self,
        snapshot: Candidate,
        recorded: Mapping[str, FileEntry],
        adopted: Mapping[str, FileEntry],
        others: set[str],
        plain: Mapping[str, PlainObject],
    ) -> Base:
        """Return what the next snapshot continues from; `others` are the paths of the recorded files of other hosts."""
        if self.request.attempt is not None and not self.request.attempt.leads:
            others |= adopted.keys()  # they belong to the first host
        entries, etags = {**recorded, **adopted}, {entry.key: entry.etag for entry in adopted.values()}
        return Base(
            found=self.catalog,
            files={path: entry for path, entry in entries.items() if path not in others},
            theirs={path: entry for path, entry in entries.items() if path in others},
            names=snapshot.names,
            lists=snapshot.lists,
            adopted=snapshot.adopted | etags,
            plain={
                key: replace(found, origin=Origin.ADOPTED) if key in etags else found for key, found in plain.items()
            },
        )

    def _chosen(self, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        """Return the files of the requested checkpoint, or all."""
        only = self.request.checkpoint
        return {path: file for path, file in files.items() if only is None or checkpoint_of(path) == only}

    def _fetch_and_list(self, planned: Mapping[str, FileEntry]) -> tuple[_Fetched, DamagedError | NotFoundError | None]:
        """Fetch the recorded files while the rest of the prefix is listed; return the fetched ones, or the error.

        The error does not count if it is of a file that another writer has replaced. Only the listing shows that.
        """
        listing = self.workers.submit(self.catalog.objects)
        fetched: _Fetched = [], [], {}
        failure: DamagedError | NotFoundError | None = None
        try:
            fetched = self._fetch(planned)
        except (DamagedError, NotFoundError) as error:
            failure = error
        while not wait([listing], timeout=_LOOK).done:
            self.stop.refuse_if_stopped("listing the prefix")
        return fetched, failure

    def _fetch(self, planned: Mapping[str, FileEntry]) -> _Fetched:
        """Fetch to staging the files that are needed before the script starts."""
        self.staging.clear(planned)
        now, later = split(planned.values(), self.request.mode)
        if self.request.mode is Mode.NONE:  # files that an earlier attempt has left on this disk need not be fetched
            known = self.staging.already_here(planned)
            now = [checkpoint for checkpoint in later if checkpoint.files.keys() <= known.keys()]
            later = [checkpoint for checkpoint in later if checkpoint.files.keys() - known.keys()]
            return now, later, {path: known[path] for checkpoint in now for path in checkpoint.files}
        files = {path: file for checkpoint in now for path, file in checkpoint.files.items()}
        return now, later, self.staging.fetch(files, self.staging.already_here(files))
