"""Staging: fetch a snapshot's files beside the checkpoint directory, then put them in place."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath

from holdfast import disk, names, transfer
from holdfast.checksum import sha256_file
from holdfast.errors import ConfigError, DamagedError, DiskFullError, NotFoundError
from holdfast.record import FileEntry
from holdfast.store import Store


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to fetch, as FileEntry; the checksum of a foreign one is not known before.

    Where `preserved` names a key, the content lies there when it is no longer at `key`.
    """

    path: str
    size: int
    mtime_ns: int
    mode: int
    crc64nvme: int | None
    key: str
    etag: str
    preserved: str | None = None
    sha256: str | None = None
    parts: str | None = None


class Staging:
    """Fetches files into `.holdfast/staging/`, then puts them in place.

    Args:
        store: where from.
        directory: the checkpoint directory.
        workers: runs the transfers.
        progress: gets (bytes fetched, bytes to fetch).
        should_stop: asked between pieces; when it says yes, transfer.StoppedError ends the work.
    """

    def __init__(
        self,
        store: Store,
        directory: Path,
        workers: Executor,
        progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self.bytes_fetched = 0
        self._store = store
        self._directory = directory
        self._own = directory / names.OWN_DIRECTORY
        self._staging = self._own / "staging"
        self._workers = workers
        self._progress = progress
        self._should_stop = should_stop

    def fetch(self, wanted: Mapping[str, Wanted]) -> dict[str, FileEntry]:
        """Fetch and check what the directory does not hold already; return the entries of all files, by path.

        What an earlier restore left in staging is used where it is the same content, and removed where it is not.

        Raises:
            DamagedError, NotFoundError: an object is not what is wanted.
            DiskFullError: there is no room.
            ConfigError: the file system does not tell two names apart.
            StoreError: the store cannot be read.
        """
        self._clear_staging(wanted)
        files = list(wanted.values())
        known = {
            file.path: crc
            for file, crc in zip(files, self._workers.map(self._already_here, files), strict=True)
            if crc is not None
        }
        missing = [file for file in files if file.path not in known]
        total = sum(file.size for file in missing)
        self._refuse_if_too_full(total)
        known |= self._download_all(missing, total)
        refuse_if_same_file(self._staging, [file.path for file in missing])
        self.bytes_fetched += total
        return {
            file.path: FileEntry(
                file.path,
                file.size,
                file.mtime_ns,
                file.mode,
                known[file.path],
                file.key,
                file.etag,
                file.sha256,
                file.parts,
            )
            for file in files
        }

    def _clear_staging(self, wanted: Mapping[str, Wanted]) -> None:
        """Remove what an earlier restore, or an earlier candidate of this one, has staged and is not wanted now."""
        for folder, _, files in os.walk(self._staging, topdown=False):
            for name in files:
                path = Path(folder, name)
                file = wanted.get(path.relative_to(self._staging).as_posix())
                status = path.lstat()
                if file is None or (file.size, file.mtime_ns) != (status.st_size, status.st_mtime_ns):
                    path.unlink()
            with contextlib.suppress(OSError):
                Path(folder).rmdir()  # only when it is empty

    def _already_here(self, file: Wanted) -> int | None:
        """Return the checksum when the directory, or staging, holds this content already."""
        if file.crc64nvme is None:
            return None
        for place in (self._directory, self._staging):
            state = disk.look(place, file.path)
            if state is None or (state.size, state.mtime_ns) != (file.size, file.mtime_ns):
                continue
            reached_through_a_link = (place / file.path).resolve() != place.resolve() / file.path
            if reached_through_a_link:
                continue
            if transfer.checksum_file(place / file.path, size=file.size).whole == file.crc64nvme:
                if place == self._directory:
                    (self._staging / file.path).unlink(missing_ok=True)
                return file.crc64nvme
        return None

    def _refuse_if_too_full(self, needed: int) -> None:
        free = shutil.disk_usage(self._directory).free
        if needed > free:
            raise DiskFullError(
                f"{self._directory} has {free:,} bytes free and the snapshot needs {needed:,} more: "
                "give it a larger volume, or set CHECKPOINT_LOCAL_PATH to one"
            )

    def _download_all(self, missing: list[Wanted], total: int) -> dict[str, int]:
        """Fetch small files side by side and large ones one after the other in parallel ranges; return checksums."""
        done = 0
        lock = threading.Lock()

        def count(size: int) -> None:
            nonlocal done
            with lock:
                done += size
                self._progress(done, total)

        self._progress(0, total)
        small = {
            file.path: self._workers.submit(self._download, file, count, None)
            for file in missing
            if file.size < transfer.PART_SIZE
        }
        wait(small.values())  # also after a failure: nobody writes to staging when this is over
        checksums = {path: future.result() for path, future in small.items()}
        for file in missing:
            if file.size >= transfer.PART_SIZE:
                checksums[file.path] = self._download(file, count, self._workers)
        return checksums

    def _download(self, file: Wanted, count: Callable[[int], None], parts: Executor | None) -> int:
        if self._should_stop():
            raise transfer.StoppedError(f"{file.path} was not fetched: the restore was given up")
        staged = self._staging / file.path
        staged.parent.mkdir(parents=True, exist_ok=True)
        staged.unlink(missing_ok=True)
        fetch = partial(
            transfer.download_file,
            self._store,
            destination=staged,
            size=file.size,
            expected_crc=file.crc64nvme,
            workers=parts,
            progress=count,
            should_stop=self._should_stop,
        )
        try:
            crc = fetch(file.key, etag=file.etag)
        except (DamagedError, NotFoundError) as error:
            if file.preserved is None:
                raise
            try:
                crc = fetch(file.preserved, etag=None)
            except NotFoundError:
                raise error from None
        if file.sha256 is not None and sha256_file(staged) != file.sha256:
            staged.unlink()
            raise DamagedError(f"object {file.key!r} has another SHA-256 than the record says")
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
        self._remove_empty_directories()
        return tuple(displaced)

    def _remove_empty_directories(self) -> None:
        """Remove directories without a file: no snapshot has any, and a script would take one for a checkpoint."""
        for folder, _, _ in os.walk(self._directory, topdown=False):
            if Path(folder) != self._directory:
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()  # refuses where anything is left, in `.holdfast/displaced` for one

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


def refuse_if_same_file(directory: Path, paths: Iterable[str]) -> None:
    """Refuse a file system on which two names that differ in case, or in how Unicode writes them, are one file.

    Raises:
        ConfigError: with both names.
    """
    seen: dict[str, str] = {}
    for path in sorted(paths):
        folded = unicodedata.normalize("NFKC", path).casefold()
        other = seen.setdefault(folded, path)
        if other != path and (directory / path).samefile(directory / other):
            raise ConfigError(
                f"the file system of {directory} takes {other!r} and {path!r} for the same file: "
                "set CHECKPOINT_LOCAL_PATH to a directory on one that tells them apart"
            )


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    number = 0
    free = target
    while free.exists() or free.is_symlink():  # a directory whose files were moved before it was
        number += 1
        free = target.with_name(f"{target.name}~{number}")
    source.rename(free)
