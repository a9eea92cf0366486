"""Fetch and check the files of a snapshot in a staging folder, before they are placed."""

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
from holdfast.restore.plan import PlannedFile
from holdfast.stop import NEVER, StoppedError, StopToken
from holdfast.store import Store
from holdfast.transfer import parts as parts_module
from holdfast.transfer.download import Source, download_file
from holdfast.transfer.parallel import Transfer, batches

_LARGE_FILES = 3
"""Large files that are fetched in parallel: the end of one leaves no thread idle, and the kernel's lock of a file does
not block all threads."""


class Staging:
    """Fetches files into `.holdfast/staging/` of a checkpoint directory.

    Args:
        store: the store of the prefix.
        directory: the checkpoint directory.
        workers: threads that run the transfers.
        progress: called with (bytes fetched, bytes to fetch).
        stop: ends the work between two parts, with StoppedError.
        reserve: bytes that must stay free on the disk (default 0).
    """

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
        self._kept = 0
        self._keeping = threading.Lock()
        self.root = directory / names.OWN_DIRECTORY / "staging"
        """The folder of the staged files, each under its path."""
        self._store = store
        self._directory = directory
        self._workers = workers
        self._progress = progress
        self._stop = stop
        self._reserve = reserve

    def clear(self, wanted: Mapping[str, PlannedFile]) -> None:
        """Remove staged files of an earlier restore, or of an earlier candidate, that are not wanted now."""
        for folder, _, files in os.walk(self.root, topdown=False):
            for name in files:
                path = Path(folder, name)
                file = wanted.get(path.relative_to(self.root).as_posix())
                status = path.lstat()
                if (
                    file is None
                    or file.size != status.st_size
                    or not (file.parts or file.mtime_ns == status.st_mtime_ns)
                ):
                    path.unlink()
            with contextlib.suppress(OSError):
                Path(folder).rmdir()  # only when it is empty

    def already_here(self, wanted: Mapping[str, PlannedFile]) -> dict[str, int]:
        """Return the checksums of the files whose content is in the directory or in staging already, by path."""
        files = [file for file in wanted.values() if file.crc64nvme is not None]
        here = self._sum_up(self._directory, scan.scan(self._directory).files, files)
        staged = scan.scan(self.root).files
        whole = self._sum_up(self.root, staged, [file for file in files if file.path not in here])
        self._drop(staged, wanted, whole)
        return here | whole

    def staged(self, checkpoint: str, files: Mapping[str, PlannedFile]) -> dict[str, int]:
        """Return the checksums of the staged files of a checkpoint, by path, and remove those that cannot be used."""
        found = scan.scan(self.root, only=checkpoint).files
        whole = self._sum_up(self.root, found, [file for file in files.values() if file.crc64nvme is not None])
        self._drop(found, files, whole)
        return whole

    def _drop(self, staged: Mapping[str, FileState], wanted: Mapping[str, PlannedFile], whole: Collection[str]) -> None:
        """Remove staged files that are not complete, unless their download can be resumed."""
        for path in wanted.keys() & staged.keys() - whole:
            # A file that looks complete and is not may have other hard links, and so must not be written to.
            if wanted[path].parts is None or _is_like(staged[path], wanted[path]):
                (self.root / path).unlink()

    def fetch(self, wanted: Mapping[str, PlannedFile], known: Mapping[str, int]) -> dict[str, int]:
        """Fetch and check files; return the checksums of all, by path.

        Args:
            wanted: the files, by path.
            known: checksums from `already_here`. These files are not fetched.

        Raises:
            DamagedError, NotFoundError: an object is missing, or has other content.
            DiskFullError: the disk has no room.
            ConfigError: the file system does not tell two names apart.
            StoreError: the store cannot be read.
        """
        missing = [file for path, file in wanted.items() if path not in known]
        total = sum(file.size for file in missing)
        self._refuse_if_too_full(total - sum(self._allocated(file) for file in missing if file.parts))
        for folder in {file.path.rpartition("/")[0] for file in missing}:
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        fetched = self._download_all(missing, total)
        refuse_if_same_file(self.root, [file.path for file in missing])
        self.bytes_fetched += total - self._kept
        return {**known, **fetched}

    def states(self, paths: Iterable[str]) -> dict[str, FileState]:
        """Return the states of staged files, by path."""
        seen = {path: scan.look(self.root, path) for path in paths}
        return {path: state for path, state in seen.items() if state is not None}

    def _sum_up(self, place: Path, found: Mapping[str, FileState], files: Iterable[PlannedFile]) -> dict[str, int]:
        """Return the checksums of the files that are in a folder with the wanted content, by path."""
        alike = [file for file in files if _is_like(found.get(file.path), file)]
        root = place.resolve() if alike else place

        def is_same(file: PlannedFile) -> bool:
            reached_through_a_link = (place / file.path).resolve() != root / file.path
            if reached_through_a_link:
                return False
            return parts_module.checksum_file(place / file.path, size=file.size).whole == file.crc64nvme

        same = zip(alike, self._workers.map(is_same, alike), strict=True)
        return {file.path: file.crc64nvme for file, equal in same if equal and file.crc64nvme is not None}

    def _allocated(self, file: PlannedFile) -> int:
        """Return how many bytes of a staged file are allocated on the disk."""
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

    def _download_all(self, missing: Collection[PlannedFile], total: int) -> dict[str, int]:
        """Fetch small files in parallel, then a few large ones at a time in parallel ranges; return the checksums."""
        done, self._kept = 0, 0
        lock = threading.Lock()

        def count(size: int) -> None:
            nonlocal done
            with lock:
                done += size
                self._progress(done, total)

        failed = threading.Event()

        def fetch(files: Sequence[PlannedFile], parts: Executor | None) -> dict[str, int]:
            found = {}
            for file in files:
                if failed.is_set():
                    raise StoppedError(f"{file.path} was not fetched: another file could not be")
                try:
                    found[file.path] = self._download(file, count, parts)
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

    def _count_kept(self, size: int) -> None:
        with self._keeping:
            self._kept += size

    def _download(self, file: PlannedFile, count: Callable[[int], None], parts: Executor | None) -> int:
        self._stop.refuse_if_stopped(f"fetching {file.path}")
        staged = self.root / file.path
        transfer = Transfer(self._store, parts, self._stop, count)
        fetch = partial(download_file, transfer, destination=staged, kept=self._count_kept)
        source = Source(key=file.key, size=file.size, etag=file.etag, crc64nvme=file.crc64nvme, grid=file.grid)
        try:
            crc = fetch(source)
        except (DamagedError, NotFoundError) as error:
            if file.preserved is None:
                raise
            try:
                crc = fetch(replace(source, key=file.preserved, etag=None))
            except NotFoundError:
                raise error from None
        where = os.fspath(staged)
        os.chmod(where, file.mode | 0o600)  # noqa: PTH101  as below; a script must be able to overwrite its checkpoint
        os.utime(where, ns=(file.mtime_ns, file.mtime_ns))
        return crc


def _all_of(jobs: Collection[Future[dict[str, int]]]) -> dict[str, int]:
    """Wait for all jobs, also after a failure, so that none writes to staging any more. Return their results."""
    wait(jobs)
    failures = [error for job in jobs if (error := job.exception()) is not None]
    for error in sorted(failures, key=lambda error: isinstance(error, StoppedError)):
        raise error  # the failure, not the jobs that were stopped because of it
    return {path: crc for job in jobs for path, crc in job.result().items()}


def refuse_if_same_file(directory: Path, paths: Iterable[str]) -> None:
    """Refuse a file system on which two names that differ in case or Unicode form are one file.

    Raises:
        ConfigError: two of the names are one file.
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


def _is_like(state: FileState | None, file: PlannedFile) -> bool:
    return state is not None and (state.size, state.mtime_ns) == (file.size, file.mtime_ns)
