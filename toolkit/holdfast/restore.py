"""Restore: the newest snapshot that verifies, and what others put beside it, into the checkpoint directory.

Nothing in the checkpoint directory changes before every byte of the snapshot has been fetched and checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from holdfast import names
from holdfast.catalog import Catalog, foreign_files, newest_first
from holdfast.errors import DamagedError, NoSnapshotError, NotFoundError
from holdfast.record import FileEntry, Snapshot
from holdfast.staging import Staging, Wanted
from holdfast.store import ObjectInfo, Store


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did.

    Attributes:
        snapshot: the snapshot that was restored; None when the prefix had none.
        entries: every file that came from the store, by path: the base that the next snapshot is compared with.
        foreign: paths that were adopted because somebody else wrote them.
        adopted: every foreign object that has been taken in so far, key → ETag.
        bytes_fetched: bytes that travelled.
        displaced: local files that were in the way, now below `.holdfast/displaced/`.
    """

    snapshot: Snapshot | None
    entries: Mapping[str, FileEntry]
    foreign: frozenset[str]
    adopted: Mapping[str, str]
    bytes_fetched: int
    displaced: tuple[str, ...]


def restore(
    store: Store,
    catalog: Catalog,
    directory: Path,
    *,
    workers: Executor,
    tell: Callable[[str], None],
    progress: Callable[[int, int], None] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
    only: str | None = None,
    checkpoint: str | None = None,
) -> Restored:
    """Bring the checkpoint directory to the newest snapshot that verifies.

    Args:
        store: where the prefix is.
        catalog: what `read_catalog` found there.
        directory: the checkpoint directory; created when missing.
        workers: runs the transfers.
        tell: gets a sentence about everything that the operator should know: what was skipped, and why.
        progress: gets (bytes fetched, bytes to fetch).
        should_stop: asked between pieces; when it says yes, transfer.StoppedError ends the restore.
        only: the name of one snapshot to restore instead of the newest, without adopting anything.
        checkpoint: the name of one checkpoint (top-level entry) to restore instead of all.

    Raises:
        NoSnapshotError: there are snapshots, and none of them verifies. The directory is as it was.
        DiskFullError: the directory has no room for the snapshot.
        StoreError: the store cannot be read.
    """
    if only is not None:
        catalog = Catalog(catalog.attempts, tuple(name for name in catalog.snapshots if name == only), {})
    directory.mkdir(parents=True, exist_ok=True)
    staging = Staging(store, directory, workers, progress, should_stop)
    failures = 0
    for snapshot in newest_first(store, catalog):
        try:
            if isinstance(snapshot, DamagedError):
                raise snapshot
            adopted = _adoptable(foreign_files(store, catalog, snapshot, workers), snapshot.files, tell)
            wanted = {path: _from_entry(entry) for path, entry in snapshot.files.items()} | adopted
            return _finish(staging, snapshot, wanted, checkpoint, tell)
        except (DamagedError, NotFoundError) as error:
            failures += 1
            tell(f"snapshot passed over, the one before it is tried: {error}")
    if failures or only is not None:
        raise NoSnapshotError(
            f"no snapshot under the prefix verifies ({failures} tried); the checkpoint directory is untouched. "
            "Look with `holdfast verify URI`; to start from scratch on purpose, use another prefix"
        )
    adopted = _adoptable(foreign_files(store, catalog, None, workers), {}, tell)
    return _finish(staging, None, adopted, checkpoint, tell)


def _from_entry(entry: FileEntry) -> Wanted:
    return Wanted(entry.path, entry.size, entry.mtime_ns, entry.mode, entry.crc64nvme, entry.key, entry.etag)


def _adoptable(
    foreign: Mapping[str, ObjectInfo], recorded: Mapping[str, FileEntry], tell: Callable[[str], None]
) -> dict[str, Wanted]:
    """Sort out the foreign files whose names must not or cannot be written."""
    adopted = {}
    every = foreign.keys() | recorded.keys()
    directories = {str(parent) for path in every for parent in PurePosixPath(path).parents}
    for key, info in sorted(foreign.items()):
        reason = names.unsafe_reason(key)
        if reason is None and key in directories:
            reason = "other files need a directory of that name"
        if reason is None and any(str(parent) in recorded for parent in PurePosixPath(key).parents):
            reason = "a file of the snapshot stands where its directory should be"
        if reason is None and info.size == 0 and key in recorded and recorded[key].size > 0:
            reason = "somebody has emptied a file of the snapshot"
        if reason is not None:
            tell(f"object {key!r} is not restored: {reason}")
            continue
        adopted[key] = Wanted(key, info.size, int(info.modified * 1e9), 0o644, None, key, info.etag)
    return adopted


def _finish(
    staging: Staging,
    snapshot: Snapshot | None,
    wanted: Mapping[str, Wanted],
    checkpoint: str | None,
    tell: Callable[[str], None],
) -> Restored:
    if checkpoint is not None:
        wanted = {path: file for path, file in wanted.items() if names.checkpoint_of(path) == checkpoint}
    foreign = frozenset(path for path, file in wanted.items() if file.crc64nvme is None)
    entries = staging.fetch(wanted)
    displaced = staging.place(entries) if wanted else ()
    for path in displaced:
        tell(f"local file {path!r} differs from the snapshot: moved to {names.OWN_DIRECTORY}/displaced/")
    known = snapshot.adopted if snapshot else {}
    adopted = {**known, **{entries[path].key: entries[path].etag for path in foreign}}
    return Restored(snapshot, entries, foreign, adopted, staging.bytes_fetched, tuple(displaced))
