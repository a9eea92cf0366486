"""Restore: the newest snapshot that verifies, and what others put beside it, into the checkpoint directory.

Nothing in the checkpoint directory changes before every byte that is wanted now has been fetched and checked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, wait
from dataclasses import dataclass, replace
from pathlib import Path

from holdfast import names
from holdfast.errors import DamagedError, NoSnapshotError, NotFoundError
from holdfast.local.recover import recover
from holdfast.local.unsent import Unsent, UnsentNote
from holdfast.names import checkpoint_of
from holdfast.restore.adoption import adoptable_files
from holdfast.restore.base import Base
from holdfast.restore.placement import Placement
from holdfast.restore.plan import Mode, PlannedCheckpoint, PlannedFile, from_entry, split
from holdfast.restore.staging import Staging
from holdfast.snapshot.attempt import Attempt
from holdfast.snapshot.candidates import Candidate, newest_first
from holdfast.snapshot.catalog import Catalog
from holdfast.snapshot.ownership import Origin, find_origins
from holdfast.stop import NEVER, StopToken
from holdfast.store import Store
from holdfast.wording import listed

_LOG = logging.getLogger(__name__)

_Fetched = tuple[list[PlannedCheckpoint], list[PlannedCheckpoint], dict[str, int]]
"""What is to be put in place, what is not, and the checksums of the files of the former, by path."""
_LOOK = 0.2
"""Seconds between two looks whether a restore that waits for the listing is still wanted."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did.

    Attributes:
        snapshot: the snapshot that was restored; None when the prefix had none.
        base: what the next snapshot goes on from; its files are those that were restored.
        foreign: paths that were adopted because somebody else wrote them.
        bytes_fetched: bytes that travelled.
        displaced: local files that were in the way, now below `.holdfast/displaced/`.
        checkpoints: that were put in place, newest first.
        behind: those that are to arrive behind the start of the script, newest first.
        kept: what an earlier life on this directory had finished and could not send: it is as it was.
    """

    snapshot: Candidate | None
    base: Base
    foreign: frozenset[str]
    bytes_fetched: int
    displaced: tuple[str, ...]
    checkpoints: tuple[PlannedCheckpoint, ...]
    behind: tuple[PlannedCheckpoint, ...]
    kept: tuple[UnsentNote, ...] = ()

    @property
    def files(self) -> frozenset[str]:
        """The paths that are on the disk."""
        return frozenset(path for unit in self.checkpoints for path in unit.files)


def restore(  # noqa: PLR0913  one call with many defaults
    store: Store,
    catalog: Catalog,
    directory: Path,
    *,
    workers: Executor,
    progress: Callable[[int, int], None] = lambda done, total: None,
    stop: StopToken = NEVER,
    candidates: Iterable[Candidate | DamagedError] | None = None,
    adopt: bool = True,
    checkpoint: str | None = None,
    mine: Attempt | None = None,
    mode: Mode = Mode.ALL,
    unsent: Unsent | None = None,
) -> Restored:
    """Bring the checkpoint directory to the newest snapshot that verifies.

    Args:
        store: where the prefix is.
        catalog: what `read_catalog` found there.
        directory: the checkpoint directory; created when missing.
        workers: runs the transfers.
        progress: gets (bytes fetched, bytes to fetch).
        stop: ends the restore between two parts, with StoppedError.
        candidates: what to restore, the first that verifies; the newest where none is given.
        adopt: take in what somebody else has put beside it.
        checkpoint: the name of one checkpoint (top-level entry) to restore instead of all.
        mine: the attempt that goes on from there.
        mode: how much of it.
        unsent: knows what an earlier life on this directory had finished and could not send; it goes before what the
            newest snapshot has under that name. None: whatever is in the way is moved aside.

    Raises:
        NoSnapshotError: there are snapshots, and none of them verifies. The directory is as it was.
        DiskFullError: the directory has no room for the snapshot.
        StoreError: the store cannot be read.
    """
    directory.mkdir(parents=True, exist_ok=True)
    staging = Staging(store, directory, workers, progress, stop)
    placing = Placement(directory, staging.root)
    restoring = _Restoring(store, catalog, staging, placing, checkpoint, workers, mine, adopt, mode, stop, unsent)
    passed_over: list[str] = []
    failures = 0
    for candidate in newest_first(store, catalog, workers) if candidates is None else candidates:
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
    """Another writer has stored something where an unsent checkpoint would go."""

    def __init__(self, unsent: Sequence[UnsentNote]) -> None:
        self.unsent = unsent


@dataclass(frozen=True, slots=True)
class _Restoring:
    """What the candidates of one restore share."""

    store: Store
    catalog: Catalog
    staging: Staging
    placing: Placement
    checkpoint: str | None
    workers: Executor
    mine: Attempt | None
    adopt: bool
    mode: Mode
    stop: StopToken
    unsent: Unsent | None

    def finish(self, snapshot: Candidate | None, passed_over: Sequence[str]) -> Restored:
        """Fetch a snapshot and what others put beside it, then put it all in place."""
        if snapshot is not None:
            _warn_of_conflicts(snapshot)
        kept = self._left_here(snapshot) if not passed_over else []
        while True:
            try:
                return self._finish(snapshot, passed_over, kept)
            except _ContestedError as error:
                contested = {name for it in error.unsent for name in it.checkpoints}
                _LOG.warning("%s: not used, another writer has stored objects under the same name", listed(contested))
                kept = [it for it in kept if it.checkpoints.isdisjoint(contested)]

    def _left_here(self, snapshot: Candidate | None) -> list[UnsentNote]:
        """Return what an earlier life on this directory had finished and could not send, if it still counts."""
        mine, records = self.mine, snapshot.records if snapshot else ()
        alone = mine is not None and not mine.hosts and len(records) <= 1 and not any(it.hosts for it in records)
        if self.unsent is None or self.checkpoint is not None or not alone:
            return []
        return recover(self.unsent, records[0] if records else None, self.catalog.attempts)

    def _finish(self, snapshot: Candidate | None, passed_over: Sequence[str], kept: Sequence[UnsentNote]) -> Restored:
        own, theirs = snapshot.split(self.mine) if snapshot else ({}, {})
        recorded = theirs | own
        known = snapshot.adopted if snapshot else {}
        stays = {name for it in kept for name in it.checkpoints}
        fetches = {path: entry for path, entry in recorded.items() if checkpoint_of(path) not in stays}
        wanted = self._chosen({path: from_entry(entry) for path, entry in fetches.items()})
        fetched, failure = self._fetch_and_list(wanted)
        plain = find_origins(self.store, self.catalog, own.values(), theirs.values(), known, self.mine, self.workers)
        foreign = {key: there.info for key, there in plain.items() if there.origin is Origin.FOREIGN and self.adopt}
        adoptable = self._chosen(adoptable_files(foreign, recorded))
        taken = set(map(checkpoint_of, adoptable))
        if contested := [it for it in kept if it.checkpoints & taken]:
            raise _ContestedError(contested)
        if adoptable:  # what was fetched is staged, and not fetched again; what failed may be what somebody replaced
            wanted |= adoptable
            fetched = self._fetch(wanted)
        elif failure is not None:
            raise failure
        now, behind, sums = fetched
        later = {path: file for unit in behind for path, file in unit.files.items()}
        stay = {state.path for it in kept for state in it.states}
        displaced = self.placing.place(now, later, stay) if wanted or kept else ()
        for path in displaced:
            _LOG.warning("local file %r differs from the snapshot: moved to %s/displaced/", path, names.OWN_DIRECTORY)
        taken_in = {path: wanted[path].as_entry(sums[path]) for path in sums if wanted[path].crc64nvme is None}
        entries = {
            path: entry for path, entry in recorded.items() if path in wanted or checkpoint_of(path) in stays
        } | taken_in
        adopted = {entry.key: entry.etag for entry in taken_in.values()}
        mine = {path for path in entries if path not in theirs or path in own}
        if self.mine is not None and not self.mine.leads:
            mine -= taken_in.keys()  # what belongs to none is the first host's
        base = Base(
            self.catalog,
            {path: entry for path, entry in entries.items() if path in mine},
            {**known, **adopted},
            {key: replace(there, origin=Origin.ADOPTED) if key in adopted else there for key, there in plain.items()},
            tuple(passed_over),
            {path: entry for path, entry in entries.items() if path not in mine},
            snapshot.names if snapshot else (),
            snapshot.lists if snapshot else (),
            frozenset(later),
            {file.key: file.etag for file in later.values() if file.crc64nvme is None},
            frozenset(path for it in kept for path in it.changed),
        )
        behind = behind if self.mode is Mode.LATEST else []
        bytes_fetched = self.staging.bytes_fetched
        return Restored(
            snapshot, base, frozenset(taken_in), bytes_fetched, displaced, tuple(now), tuple(behind), tuple(kept)
        )

    def _chosen(self, files: dict[str, PlannedFile]) -> dict[str, PlannedFile]:
        """Return the files of the checkpoint that was asked for; all where none was."""
        return {
            path: file
            for path, file in files.items()
            if self.checkpoint is None or names.checkpoint_of(path) == self.checkpoint
        }

    def _fetch_and_list(
        self, wanted: Mapping[str, PlannedFile]
    ) -> tuple[_Fetched, DamagedError | NotFoundError | None]:
        """Fetch what the record names while the rest of the prefix is listed, which `find_origins` then needs.

        Returns what was fetched and None; or nothing, and why: of what somebody else has replaced, the record's content
        is not needed, and that is known only when everything is listed.
        """
        listing = self.workers.submit(self.catalog.objects)
        fetched: _Fetched = [], [], {}
        failure: DamagedError | NotFoundError | None = None
        try:
            fetched = self._fetch(wanted)
        except (DamagedError, NotFoundError) as error:
            failure = error
        while not wait([listing], timeout=_LOOK).done:
            self.stop.refuse_if_stopped("listing the prefix")
        return fetched, failure

    def _fetch(self, wanted: Mapping[str, PlannedFile]) -> _Fetched:
        """Fetch what is wanted before the script starts, beside the checkpoint directory."""
        self.staging.clear(wanted)
        now, later = split(wanted.values(), self.mode)
        if self.mode is Mode.NONE:  # what an earlier life has left on this disk need not be fetched
            known = self.staging.already_here(wanted)
            now = [unit for unit in later if unit.files.keys() <= known.keys()]
            later = [unit for unit in later if not unit.files.keys() <= known.keys()]
            return now, later, {path: known[path] for unit in now for path in unit.files}
        files = {path: file for unit in now for path, file in unit.files.items()}
        return now, later, self.staging.fetch(files, self.staging.already_here(files))


def _warn_of_conflicts(snapshot: Candidate) -> None:
    for path, hosts in snapshot.conflicts().items():
        _LOG.warning(
            "%r is different on %s: each gets its own, the others that of %s; let every rank write under a name of "
            "its own", path, " and ".join(hosts), hosts[0],
        )  # fmt: skip
