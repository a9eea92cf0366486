"""Fetch the files of a snapshot to a staging folder, and check them, before they are placed."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from pathlib import Path

from holdfast import names
from holdfast.errors import ConfigError, DamagedError, DiskFullError, NotFoundError
from holdfast.local import scan
from holdfast.local.scan import FileState
from holdfast.restore.plan import UNKNOWN, is_like
from holdfast.snapshot.record import FileEntry
from holdfast.stop import NEVER, StoppedError, StopToken
from holdfast.store import Store
from holdfast.transfer import part_checksums
from holdfast.transfer import parts as parts_module
from holdfast.transfer.download import Source, download_file
from holdfast.transfer.parallel import Transfer, batches
from holdfast.transfer.part_checksums import Grid

_LARGE_FILES = 3
"""Large files that are fetched in parallel: the end of one leaves no thread idle, and the kernel's lock of a file does
not block all threads."""


class Staging:
    """Fetches files into `.holdfast/staging/` of a checkpoint directory; `reserve` bytes of the disk stay free."""

    def __init__(
        self,
        store: Store,
        directory: Path,
        workers: Executor,
        progress: Callable[[int, int], None] = lambda done, total: None,
        stop: StopToken = NEVER,
        reserve: int = 0,
    ) -> None:
        self.bytes_fetched = 0
        self.root = directory / names.OWN_DIRECTORY / "staging"
        """The folder of the staged files, each under its path."""
        self._store = store
        self._directory = directory
        self._workers = workers
        self._progress = progress
        self._stop = stop
        self._reserve = reserve

    def clear(self, wanted: Mapping[str, FileEntry]) -> None:
        """Remove staged files of an earlier restore, or of an earlier candidate, that are not wanted now."""
        for folder, _, files in os.walk(self.root, topdown=False):
            for name in files:
                path = Path(folder, name)
                file = wanted.get(path.relative_to(self.root).as_posix())
                status = path.lstat()
                same_size = file is not None and file.size == status.st_size
                if not (file and same_size and (file.parts or file.mtime_ns == status.st_mtime_ns)):
                    path.unlink()
            with contextlib.suppress(OSError):
                Path(folder).rmdir()  # only when it is empty

    def already_here(self, wanted: Mapping[str, FileEntry]) -> dict[str, int]:
        """Return the checksums of the files whose content is in the directory or in staging already, by path."""
        here = self._sum_up(self._directory, scan.scan(self._directory).files, wanted.values())
        return here | self.staged(wanted, here)

    def staged(
        self, files: Mapping[str, FileEntry], here: Collection[str] = (), *, checkpoint: str | None = None
    ) -> dict[str, int]:
        """Return the checksums of the staged files with the wanted content, and remove those that cannot be used.

        Call `clear` before. Files in `here` need not be staged; `checkpoint` is the only one that is looked at.
        """
        found = scan.scan(self.root, only=checkpoint).files
        whole = self._sum_up(self.root, found, [file for path, file in files.items() if path not in here])
        for path in files.keys() & found.keys() - whole.keys():
            # A file that looks complete and is not may have other hard links, and so must not be written to. In any
            # other one a download continues.
            if path in here or is_like(found[path], files[path]):
                (self.root / path).unlink()
        return whole

    def fetch(self, wanted: Mapping[str, FileEntry], known: Mapping[str, int]) -> dict[str, int]:
        """Fetch and check the files that are not in `known`; return the checksums of all, by path.

        Raises:
            DamagedError, NotFoundError: an object is missing, or has other content.
            DiskFullError: the disk has no room.
            ConfigError: two names are one file on this file system.
        """
        missing = [file for path, file in wanted.items() if path not in known]
        total = sum(file.size for file in missing)
        self._refuse_if_too_full(total - sum(self._allocated(file) for file in missing if file.parts))
        for folder in {file.path.rpartition("/")[0] for file in missing}:
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        kept: list[int] = []
        fetched = self._download_all(missing, total, kept.append)
        refuse_if_same_file(self.root, [file.path for file in missing])
        self.bytes_fetched += total - sum(kept)
        return {**known, **fetched}

    def _sum_up(self, place: Path, found: Mapping[str, FileState], files: Iterable[FileEntry]) -> dict[str, int]:
        """Return the checksums of the files that are in a folder with the wanted content, by path."""
        alike = [file for file in files if is_like(found.get(file.path), file)]
        root = place.resolve() if alike else place

        def is_same(file: FileEntry) -> bool:
            reached_through_a_link = (place / file.path).resolve() != root / file.path
            if file.crc64nvme == UNKNOWN or reached_through_a_link:
                return False
            return parts_module.checksum_file(place / file.path, size=file.size).whole == file.crc64nvme

        same = zip(alike, self._workers.map(is_same, alike), strict=True)
        return {file.path: file.crc64nvme for file, equal in same if equal}

    def _allocated(self, file: FileEntry) -> int:
        """Return the bytes of a staged file that are allocated on the disk."""
        try:
            return min(file.size, (self.root / file.path).stat().st_blocks * 512)
        except FileNotFoundError:
            return 0

    def _refuse_if_too_full(self, needed: int) -> None:
        free = shutil.disk_usage(self._directory).free
        if needed + self._reserve > free:
            keep = f", and {self._reserve:,} are kept free for the next checkpoint" if self._reserve else ""
            raise DiskFullError(
                f"{self._directory} has {free:,} bytes free and the snapshot needs {needed:,} more{keep}: "
                "give it a larger volume, or set CHECKPOINT_LOCAL_PATH to one"
            )

    def _download_all(self, missing: Collection[FileEntry], total: int, kept: Callable[[int], None]) -> dict[str, int]:
        """Fetch small files in parallel, then a few large ones at a time in parallel ranges; return the checksums."""
        done = 0
        lock = threading.Lock()

        def count(size: int) -> None:
            nonlocal done
            with lock:
                done += size
                self._progress(done, total)

        failed = threading.Event()

        def fetch(files: Sequence[FileEntry], parts: Executor | None) -> dict[str, int]:
            found = {}
            for file in files:
                if failed.is_set():
                    raise StoppedError(f"{file.path} was not fetched: another file could not be")
                try:
                    found[file.path] = self._download(file, Transfer(self._store, parts, self._stop, count), kept)
                except BaseException:
                    failed.set()
                    raise
            return found

        self._progress(0, total)
        small = [file for file in missing if file.size < parts_module.PART_SIZE]
        large = [file for file in missing if file.size >= parts_module.PART_SIZE]
        found = _all_of([self._workers.submit(fetch, batch, None) for batch in batches(small)])
        if len(large) < 2:
            return found | fetch(large, self._workers)
        # The threads that wait for the ranges of a file must not be the workers that fetch these ranges.
        with ThreadPoolExecutor(_LARGE_FILES, thread_name_prefix="holdfast-file") as waiting:
            return found | _all_of([waiting.submit(fetch, [file], self._workers) for file in large])

    def _download(self, file: FileEntry, transfer: Transfer, kept: Callable[[int], None]) -> int:
        self._stop.refuse_if_stopped(f"fetching {file.path}")
        staged = self.root / file.path
        fetch = partial(download_file, transfer, destination=staged, kept=kept)
        crc64nvme = None if file.crc64nvme == UNKNOWN else file.crc64nvme
        source = Source(key=file.key, size=file.size, etag=file.etag, crc64nvme=crc64nvme, grid=_grid(file))
        try:
            crc = fetch(source)
        except (DamagedError, NotFoundError) as error:
            if crc64nvme is None or file.preserved is None:
                raise
            try:
                crc = fetch(replace(source, key=file.preserved, etag=None))
            except NotFoundError:
                raise error from None
        where = os.fspath(staged)
        os.chmod(where, file.mode | 0o600)  # noqa: PTH101  as below; a script must be able to overwrite its checkpoint
        os.utime(where, ns=(file.mtime_ns, file.mtime_ns))
        return crc


def _grid(file: FileEntry) -> Grid | None:
    """Return the checksums of the parts, where they are known. With them an interrupted download is resumed."""
    try:
        return None if file.parts is None else part_checksums.from_text(file.parts, size=file.size)
    except ValueError:  # of another version: a hint only
        return None


def _all_of(jobs: Collection[Future[dict[str, int]]]) -> dict[str, int]:
    """Wait for all jobs, also after a failure, so that none writes to staging any more; return their results."""
    wait(jobs)
    failures = [error for job in jobs if (error := job.exception()) is not None]
    for error in sorted(failures, key=lambda error: isinstance(error, StoppedError)):
        raise error  # the failure, not the jobs that were stopped because of it
    return {path: crc for job in jobs for path, crc in job.result().items()}


def refuse_if_same_file(directory: Path, paths: Iterable[str]) -> None:
    """Raise ConfigError where two names that differ in case or Unicode form are one file."""
    seen: dict[str, str] = {}
    for path in sorted(paths):
        folded = unicodedata.normalize("NFKC", path).casefold()
        other = seen.setdefault(folded, path)
        if other != path and (directory / path).samefile(directory / other):
            raise ConfigError(
                f"{other!r} and {path!r} are the same file on the file system of {directory}: "
                "set CHECKPOINT_LOCAL_PATH to a directory on one that distinguishes the names"
            )
