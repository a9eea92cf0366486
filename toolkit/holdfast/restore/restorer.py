"""Restore the newest snapshot that verifies, and files of other writers, into the checkpoint directory.

Nothing in the checkpoint directory changes before everything that is needed now has been fetched and checked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor, wait
from dataclasses import dataclass, replace
from pathlib import Path

from holdfast import names
from holdfast.errors import DamagedError, NoSnapshotError, NotFoundError
from holdfast.local.recover import recover
from holdfast.local.unsent import UnsentNote
from holdfast.names import checkpoint_of
from holdfast.restore.adoption import adoptable_files
from holdfast.restore.base import Base
from holdfast.restore.placement import Placement
from holdfast.restore.plan import Mode, PlannedCheckpoint, PlannedFile, from_entry, split
from holdfast.restore.request import EVERYTHING, Request, Restored
from holdfast.restore.staging import Staging
from holdfast.snapshot.candidates import Candidate, newest_first
from holdfast.snapshot.catalog import Catalog
from holdfast.snapshot.ownership import Origin, PlainObject, find_origins
from holdfast.snapshot.record import FileEntry
from holdfast.stop import NEVER, StopToken
from holdfast.store import Store
from holdfast.wording import listed

_LOG = logging.getLogger(__name__)

_Fetched = tuple[list[PlannedCheckpoint], list[PlannedCheckpoint], dict[str, int]]
"""Checkpoints to place, deferred ones, and the checksums of the files of the former, by path."""
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
    """Bring the checkpoint directory to the newest snapshot that verifies.

    Args:
        store: the store of the prefix.
        catalog: result of `read_catalog`.
        directory: the checkpoint directory; created when missing.
        request: what to restore.
        workers: threads that run the transfers.
        progress: called with (bytes fetched, bytes to fetch).
        stop: ends the restore between two parts, with StoppedError.

    Raises:
        NoSnapshotError: there are snapshots, and none verifies. The directory is as it was.
        DiskFullError: the directory has no room for the snapshot.
        StoreError: the store cannot be read.
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
    return restoring.finish(None, passed_over)


class _ContestedError(Exception):
    """Another writer has stored objects under the names of unsent checkpoints."""

    def __init__(self, unsent: Sequence[UnsentNote]) -> None:
        self.unsent = unsent


@dataclass(frozen=True, slots=True)
class _Restoring:
    """One restore, of whichever candidate verifies."""

    store: Store
    catalog: Catalog
    staging: Staging
    placement: Placement
    request: Request
    workers: Executor
    stop: StopToken

    def finish(self, snapshot: Candidate | None, passed_over: Sequence[str]) -> Restored:
        """Fetch a snapshot and the files of other writers, then place everything."""
        if snapshot is not None:
            _warn_of_conflicts(snapshot)
        kept = self._recovered(snapshot) if not passed_over else []
        while True:
            try:
                return self._finish(snapshot, kept, passed_over)
            except _ContestedError as error:
                contested = {name for note in error.unsent for name in note.checkpoints}
                _LOG.warning("%s: not used, another writer has stored objects under the same name", listed(contested))
                kept = [note for note in kept if note.checkpoints.isdisjoint(contested)]

    def _recovered(self, snapshot: Candidate | None) -> list[UnsentNote]:
        """Return the unsent checkpoints of an earlier attempt in this directory that are still valid."""
        attempt, records = self.request.attempt, snapshot.records if snapshot else ()
        alone = attempt is not None and not attempt.hosts and len(records) <= 1 and not any(it.hosts for it in records)
        if self.request.unsent is None or self.request.checkpoint is not None or not alone:
            return []
        return recover(self.request.unsent, records[0] if records else None, self.catalog.attempts)

    def _finish(self, snapshot: Candidate | None, kept: Sequence[UnsentNote], passed_over: Sequence[str]) -> Restored:
        attempt = self.request.attempt
        own, theirs = snapshot.split(attempt) if snapshot else ({}, {})
        recorded = theirs | own
        unsent = {name for note in kept for name in note.checkpoints}
        planned = self._chosen(
            {path: from_entry(entry) for path, entry in recorded.items() if checkpoint_of(path) not in unsent}
        )
        fetched, failure = self._fetch_and_list(planned)
        known = snapshot.adopted if snapshot else {}
        plain = find_origins(self.store, self.catalog, own.values(), theirs.values(), known, attempt, self.workers)
        adoptable = self._adoptable(plain, recorded, kept)
        if adoptable:  # staged files are not fetched again; the failure may be of a file that another writer replaced
            planned |= adoptable
            fetched = self._fetch(planned)
        elif failure is not None:
            raise failure
        now, later, sums = fetched
        deferred = {path: file for checkpoint in later for path, file in checkpoint.files.items()}
        displaced = self._place(now, deferred, kept) if planned or kept else ()
        adopted = {path: planned[path].as_entry(sums[path]) for path in sums if planned[path].crc64nvme is None}
        entries = {path: recorded[path] for path in recorded if path in planned or checkpoint_of(path) in unsent}
        others = theirs.keys() - own.keys()
        if attempt is not None and not attempt.leads:
            others |= adopted.keys()  # they belong to the first host
        base = replace(
            self._base(snapshot, entries | adopted, others, plain, adopted.values()),
            passed_over=tuple(passed_over),
            deferred=frozenset(deferred),
            unadopted={file.key: file.etag for file in deferred.values() if file.crc64nvme is None},
            unsent=frozenset(path for note in kept for path in note.changed),
        )
        return Restored(
            snapshot=snapshot,
            base=base,
            foreign=frozenset(adopted),
            bytes_fetched=self.staging.bytes_fetched,
            displaced=displaced,
            checkpoints=tuple(now),
            later=tuple(later) if self.request.mode is Mode.LATEST else (),
            kept=tuple(kept),
        )

    def _base(
        self,
        snapshot: Candidate | None,
        entries: Mapping[str, FileEntry],
        others: Collection[str],
        plain: Mapping[str, PlainObject],
        adopted: Iterable[FileEntry],
    ) -> Base:
        """Return what the next snapshot continues from; `others` are the paths of the files of other hosts."""
        etags = {entry.key: entry.etag for entry in adopted}
        return Base(
            found=self.catalog,
            files={path: entry for path, entry in entries.items() if path not in others},
            theirs={path: entry for path, entry in entries.items() if path in others},
            names=snapshot.names if snapshot else (),
            lists=snapshot.lists if snapshot else (),
            adopted=(snapshot.adopted if snapshot else {}) | etags,
            plain={key: replace(it, origin=Origin.ADOPTED) if key in etags else it for key, it in plain.items()},
        )

    def _adoptable(
        self, plain: Mapping[str, PlainObject], recorded: Mapping[str, FileEntry], kept: Sequence[UnsentNote]
    ) -> dict[str, PlannedFile]:
        """Return the files of other writers to restore.

        Raises:
            _ContestedError: some of them belong to a checkpoint in `kept`.
        """
        if not self.request.adopt:
            return {}
        foreign = {key: found.info for key, found in plain.items() if found.origin is Origin.FOREIGN}
        adoptable = self._chosen(adoptable_files(foreign, recorded))
        checkpoints = set(map(checkpoint_of, adoptable))
        if contested := [note for note in kept if note.checkpoints & checkpoints]:
            raise _ContestedError(contested)
        return adoptable

    def _place(
        self, now: Sequence[PlannedCheckpoint], deferred: Mapping[str, PlannedFile], kept: Sequence[UnsentNote]
    ) -> tuple[str, ...]:
        displaced = self.placement.place(now, deferred, {state.path for note in kept for state in note.states})
        for path in displaced:
            _LOG.warning("local file %r differs from the snapshot: moved to %s/displaced/", path, names.OWN_DIRECTORY)
        return displaced

    def _chosen(self, files: dict[str, PlannedFile]) -> dict[str, PlannedFile]:
        """Return the files of the requested checkpoint, or all."""
        only = self.request.checkpoint
        return {path: file for path, file in files.items() if only is None or checkpoint_of(path) == only}

    def _fetch_and_list(
        self, planned: Mapping[str, PlannedFile]
    ) -> tuple[_Fetched, DamagedError | NotFoundError | None]:
        """Fetch the recorded files while the rest of the prefix is listed, which `find_origins` needs.

        Returns the fetched files and None; or nothing, and the error. A file that another writer has replaced need not
        be fetched, which is known only when everything is listed.
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

    def _fetch(self, planned: Mapping[str, PlannedFile]) -> _Fetched:
        """Fetch to staging the files that are needed before the script starts."""
        self.staging.clear(planned)
        now, later = split(planned.values(), self.request.mode)
        if self.request.mode is Mode.NONE:  # files that an earlier attempt has left on this disk need not be fetched
            known = self.staging.already_here(planned)
            now = [checkpoint for checkpoint in later if checkpoint.files.keys() <= known.keys()]
            later = [checkpoint for checkpoint in later if not checkpoint.files.keys() <= known.keys()]
            return now, later, {path: known[path] for checkpoint in now for path in checkpoint.files}
        files = {path: file for checkpoint in now for path, file in checkpoint.files.items()}
        return now, later, self.staging.fetch(files, self.staging.already_here(files))


def _warn_of_conflicts(snapshot: Candidate) -> None:
    for path, hosts in snapshot.conflicts().items():
        _LOG.warning(
            "%r is different on %s: each gets its own, the others that of %s; let every rank write under a name of "
            "its own", path, " and ".join(hosts), hosts[0],
        )  # fmt: skip
