"""Restore: the newest snapshot that verifies, and what others put beside it, into the checkpoint directory.

Nothing in the checkpoint directory changes before every byte of the snapshot has been fetched and checked.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from holdfast import disk, names, transfer
from holdfast.catalog import Catalog, foreign_files, newest_first
from holdfast.errors import DamagedError, DiskFullError, NoSnapshotError, NotFoundError
from holdfast.record import FileEntry, Snapshot
from holdfast.store import ObjectInfo, Store


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did.

    Attributes:
        snapshot: the snapshot that was restored; None when the prefix had none.
        entries: every file that came from the store, by path: the base that the next snapshot is compared with.
        foreign: paths that were adopted because somebody else wrote them.
        bytes_fetched: bytes that travelled.
        displaced: local files that were in the way, now below `.holdfast/displaced/`.
    """

    snapshot: Snapshot | None
    entries: Mapping[str, FileEntry]
    foreign: frozenset[str]
    bytes_fetched: int
    displaced: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A file to fetch; the checksum is unknown for a foreign one."""

    path: str
    size: int
    mtime_ns: int
    mode: int
    crc64nvme: int | None
    key: str
    etag: str


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
        catalog = Catalog(
            catalog.attempts, tuple(name for name in catalog.snapshots if name == only), {}, catalog.objects
        )
    directory.mkdir(parents=True, exist_ok=True)
    fetch = _Fetch(store, directory, workers, progress, should_stop)
    failures = 0
    for snapshot in newest_first(store, catalog):
        try:
            if isinstance(snapshot, DamagedError):
                raise snapshot
            adopted = _adoptable(foreign_files(store, catalog, snapshot, workers), snapshot.files, tell)
            wanted = {path: _from_entry(entry) for path, entry in snapshot.files.items()} | adopted
            return _finish(fetch, snapshot, wanted, checkpoint, tell)
        except (DamagedError, NotFoundError) as error:
            failures += 1
            tell(f"snapshot passed over, the one before it is tried: {error}")
    if failures or only is not None:
        raise NoSnapshotError(
            f"no snapshot under the prefix verifies ({failures} tried); the checkpoint directory is untouched. "
            "Look with `holdfast verify URI`; to start from scratch on purpose, use another prefix"
        )
    adopted = _adoptable(foreign_files(store, catalog, None, workers), {}, tell)
    return _finish(fetch, None, adopted, checkpoint, tell)


def _from_entry(entry: FileEntry) -> _Wanted:
    return _Wanted(entry.path, entry.size, entry.mtime_ns, entry.mode, entry.crc64nvme, entry.key, entry.etag)


def _adoptable(
    foreign: Mapping[str, ObjectInfo], recorded: Mapping[str, FileEntry], tell: Callable[[str], None]
) -> dict[str, _Wanted]:
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
        if reason is not None:
            tell(f"object {key!r} is not restored: {reason}")
            continue
        adopted[key] = _Wanted(key, info.size, int(info.modified * 1e9), 0o644, None, key, info.etag)
    return adopted


def _finish(
    fetch: _Fetch,
    snapshot: Snapshot | None,
    wanted: Mapping[str, _Wanted],
    checkpoint: str | None,
    tell: Callable[[str], None],
) -> Restored:
    if checkpoint is not None:
        wanted = {path: file for path, file in wanted.items() if path.split("/", 1)[0] == checkpoint}
    foreign = frozenset(path for path, file in wanted.items() if file.crc64nvme is None)
    entries = fetch.stage(wanted)
    displaced = fetch.place(entries) if wanted else ()
    for path in displaced:
        tell(f"local file {path!r} differs from the snapshot: moved to {names.OWN_DIRECTORY}/displaced/")
    return Restored(snapshot, entries, foreign, fetch.fetched, tuple(displaced))


class _Fetch:
    """Fetches files into staging, then puts them in place."""

    def __init__(
        self,
        store: Store,
        directory: Path,
        workers: Executor,
        progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self.fetched = 0
        self._store = store
        self._directory = directory
        self._own = directory / names.OWN_DIRECTORY
        self._staging = self._own / "staging"
        self._workers = workers
        self._progress = progress
        self._should_stop = should_stop

    def stage(self, wanted: Mapping[str, _Wanted]) -> dict[str, FileEntry]:
        """Fetch and check what the directory does not hold already; return the entries of all files, by path."""
        states = list(wanted.values())
        present = list(self._workers.map(self._already_here, states))
        missing = [file for file, crc in zip(states, present, strict=True) if crc is None]
        total = sum(file.size for file in missing)
        self._refuse_if_too_full(total)
        self._progress(0, total)
        checksums = {file.path: crc for file, crc in zip(states, present, strict=True) if crc is not None}
        done = 0

        def count(size: int) -> None:
            nonlocal done
            done += size
            self._progress(done, total)

        small = [file for file in missing if file.size < transfer.PART_SIZE]
        fetched = self._workers.map(lambda file: self._download(file, count, None), small)
        checksums.update((file.path, crc) for file, crc in zip(small, fetched, strict=True))
        for file in missing:
            if file.size >= transfer.PART_SIZE:
                checksums[file.path] = self._download(file, count, self._workers)
        self.fetched += total
        return {
            file.path: FileEntry(
                file.path, file.size, file.mtime_ns, file.mode, checksums[file.path], file.key, file.etag
            )
            for file in states
        }

    def _already_here(self, file: _Wanted) -> int | None:
        """Return the checksum when the directory, or the staging of a restore that was cut off, holds this content."""
        if file.crc64nvme is None:
            return None
        for place in (self._directory, self._staging):
            state = disk.look(place, file.path)
            if state is None or (state.size, state.mtime_ns) != (file.size, file.mtime_ns):
                continue
            if (place / file.path).is_symlink():
                continue
            if transfer.checksum_file(place / file.path, size=file.size).whole == file.crc64nvme:
                return file.crc64nvme
        return None

    def _refuse_if_too_full(self, needed: int) -> None:
        free = shutil.disk_usage(self._directory).free
        if needed > free:
            raise DiskFullError(
                f"{self._directory} has {free:,} bytes free and the snapshot needs {needed:,} more: "
                "give it a larger volume, or set CHECKPOINT_LOCAL_PATH to one"
            )

    def _download(self, file: _Wanted, count: Callable[[int], None], parts: Executor | None) -> int:
        staged = self._staging / file.path
        staged.parent.mkdir(parents=True, exist_ok=True)
        crc = transfer.download_file(
            self._store,
            file.key,
            staged,
            size=file.size,
            etag=file.etag,
            expected_crc=file.crc64nvme,
            workers=parts,
            progress=count,
            should_stop=self._should_stop,
        )
        staged.chmod(file.mode | 0o600)  # a script must be able to overwrite its own checkpoint
        os.utime(staged, ns=(file.mtime_ns, file.mtime_ns))
        return crc

    def place(self, entries: Mapping[str, FileEntry]) -> tuple[str, ...]:
        """Move what is in the way aside and rename the staged files into place; return what was moved."""
        aside = self._own / "displaced" / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        displaced = [path for path in disk.scan(self._directory).files if path not in entries]
        for path in displaced:
            _move(self._directory / path, aside / path)
        for path in entries:
            staged, target = self._staging / path, self._directory / path
            if not staged.exists():
                continue  # it was here already
            displaced += self._clear_way(path, aside)
            target.parent.mkdir(parents=True, exist_ok=True)
            staged.rename(target)
        shutil.rmtree(self._staging, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._own.rmdir()  # only when nothing was displaced
        return tuple(displaced)

    def _clear_way(self, path: str, aside: Path) -> list[str]:
        """Move aside a link or file where a directory must be, and anything that stands at the path itself."""
        moved = []
        for part in [*reversed([str(parent) for parent in PurePosixPath(path).parents][:-1]), path]:
            there = self._directory / part
            blocks = there.is_symlink() or (there.exists() and (part == path or not there.is_dir()))
            if blocks:
                _move(there, aside / part)
                moved.append(part)
        return moved


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    number = 0
    free = target
    while free.exists() or free.is_symlink():  # a directory whose files were moved before it was
        number += 1
        free = target.with_name(f"{target.name}~{number}")
    source.rename(free)
