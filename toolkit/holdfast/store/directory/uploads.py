"""Multipart uploads of a directory store."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from holdfast.checksum import combine_all
from holdfast.errors import NotFoundError, PermanentStoreError
from holdfast.store import Part, StoredPart, UnfinishedUpload, Upload
from holdfast.store.body import write_part
from holdfast.store.directory.layout import OWN, Layout
from holdfast.store.directory.ranges import checksum_range, copy_range
from holdfast.store.os_errors import os_errors

_TEMPORARY = "tmp/"
"""Beginning of the ids of files that `put` or `copy` were writing when their process was killed."""


class Uploads:
    """The multipart uploads that have begun; each is a directory with the files `key` and `whole`.

    The size of part 1 determines the offsets of all parts in `whole`. A part that comes before part 1 is kept in a file
    of its own, named by its number.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lock = threading.Lock()
        self._part_sizes: dict[str, int] = {}
        self._written: dict[str, set[int]] = {}
        """Parts that this process has written, by upload: those of an earlier process may be lost with its machine."""

    def begin(self, key: str) -> str:
        """Begin an upload and return its id."""
        self._layout.place(key)  # an impossible key is refused before anything is written
        identity = secrets.token_hex(8)
        directory = self._directory(identity)
        self._layout.make_directories(directory)
        with os_errors(directory, "write"):
            (directory / "key").write_bytes(os.fsencode(key))
        return identity

    def write(self, upload: Upload, number: int, part: Part) -> StoredPart:
        """Store a part.

        Raises:
            NotFoundError: the upload has ended.
        """
        with self._place(upload, number, part.size) as (descriptor, path, offset):
            write_part(part, descriptor, path, offset)
        return _stored(number, part.size, part.crc64nvme)

    def copy(self, upload: Upload, number: int, source: int, *, offset: int, size: int) -> StoredPart:
        """Store a range of an open file as a part.

        Raises:
            NotFoundError: the upload has ended.
            PermanentStoreError: the file has no such range.
        """
        if offset + size > os.fstat(source).st_size:
            raise PermanentStoreError(f"part {number} of {upload.key!r} cannot be copied: its source ends before that")
        with self._place(upload, number, size) as (descriptor, path, to):
            crc = copy_range(source, descriptor, path, offset=offset, size=size, to=to)
        return _stored(number, size, crc)

    @contextmanager
    def _place(self, upload: Upload, number: int, size: int) -> Iterator[tuple[int, Path, int]]:
        """Give the descriptor, path and offset for a part."""
        directory = self._existing(upload)
        waiting = directory / str(number)
        with self._lock:
            if number == 1:
                self._part_sizes[upload.id] = size
            step = self._part_sizes.get(upload.id)
        in_place = step is not None and size <= step
        path, offset = (directory / "whole", (number - 1) * (step or 0)) if in_place else (waiting, 0)
        with os_errors(path, "create"):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            yield descriptor, path, offset
        finally:
            os.close(descriptor)
        if in_place:
            waiting.unlink(missing_ok=True)
        with self._lock:
            self._written.setdefault(upload.id, set()).add(number)

    def finish(self, upload: Upload, parts: Sequence[StoredPart], crc64nvme: int) -> Path:
        """Return the whole file, synced, compared with the checksum and ready to be published.

        Raises:
            NotFoundError: the upload has ended.
            PermanentStoreError: the parts do not fit together, or one has changed or is lost.
        """
        directory = self._existing(upload)
        whole = directory / "whole"
        written = self._written.get(upload.id, set())
        ordered = sorted(parts, key=lambda part: part.number)
        total = _check(upload, ordered, crc64nvme)
        with os_errors(whole, "write"):
            descriptor = os.open(whole, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                for part in ordered:
                    waiting = directory / str(part.number)
                    if waiting.exists():
                        _move(waiting, part, descriptor, whole, (part.number - 1) * ordered[0].size)
                    elif part.number not in written:
                        _refuse_if_lost(part, descriptor, whole, (part.number - 1) * ordered[0].size)
                os.ftruncate(descriptor, total)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        return whole

    def drop(self, upload: Upload) -> None:
        """Delete an upload and its parts, or a temporary file; a missing one is not an error."""
        if upload.id.startswith(_TEMPORARY):
            path = self._layout.root / OWN / upload.id
            with os_errors(path, "delete"):
                path.unlink(missing_ok=True)
            return
        with self._lock:
            self._part_sizes.pop(upload.id, None)
            self._written.pop(upload.id, None)
        directory = self._directory(upload.id)
        if directory.exists():
            with os_errors(directory, "delete"):
                shutil.rmtree(directory)

    def unfinished(self) -> Iterator[UnfinishedUpload]:
        """Yield the uploads that have begun, and temporary files: without a key, as old as their last write."""
        for path in self._names("uploads"):
            key, state = _read(path / "key"), _state(path / "key") or _state(path)
            if state is not None:
                yield UnfinishedUpload(Upload(key, path.name), state.st_mtime)
        for path in self._names("tmp"):
            state = _state(path)
            if state is not None:
                yield UnfinishedUpload(Upload("", f"{_TEMPORARY}{path.name}"), state.st_mtime)

    def _names(self, place: str) -> list[Path]:
        directory = self._layout.root / OWN / place
        with os_errors(directory, "list"):
            return sorted(directory.iterdir()) if directory.is_dir() else []

    def _directory(self, identity: str) -> Path:
        return self._layout.root / OWN / "uploads" / identity

    def _existing(self, upload: Upload) -> Path:
        directory = self._directory(upload.id)
        if not directory.is_dir():
            raise NotFoundError(f"the upload of {upload.key!r} has ended: it was completed or aborted")
        return directory


def _move(waiting: Path, part: StoredPart, descriptor: int, whole: Path, to: int) -> None:
    with os_errors(waiting, "read"), waiting.open("rb") as file:
        crc = copy_range(file.fileno(), descriptor, whole, offset=0, size=part.size, to=to)
    if crc != part.crc64nvme:
        raise PermanentStoreError(f"{waiting} has changed since it was stored: send it again")


def _refuse_if_lost(part: StoredPart, descriptor: int, path: Path, offset: int) -> None:
    if checksum_range(descriptor, path, offset=offset, size=part.size) != part.crc64nvme:
        raise PermanentStoreError(f"part {part.number} in {path} was never stored, or is lost: send it again")


def _read(path: Path) -> str:
    """Return the key of an upload; empty when its process was killed before it was written."""
    with suppress(FileNotFoundError):
        return os.fsdecode(path.read_bytes())
    return ""


def _state(path: Path) -> os.stat_result | None:
    """Return the status of a file; None when it is gone."""
    with suppress(FileNotFoundError):
        return path.lstat()
    return None


def _stored(number: int, size: int, crc: int) -> StoredPart:
    return StoredPart(number, f'"{crc:016x}"', size, crc)


def _check(upload: Upload, parts: Sequence[StoredPart], crc64nvme: int) -> int:
    """Return the size of the whole, or raise when the parts do not make it up."""
    problem: str | None = None
    if [part.number for part in parts] != list(range(1, len(parts) + 1)) or not parts:
        problem = "its parts are not numbered 1, 2, …"
    elif any(part.size != parts[0].size for part in parts[:-1]) or parts[-1].size > parts[0].size:
        problem = "its parts but the last are not of the same size"
    else:
        # A directory store computes the checksum of every part.
        whole = combine_all((part.crc64nvme or 0, part.size) for part in parts)
        if whole != crc64nvme:
            problem = "the checksums of its parts do not make up that of the whole"
    if problem is not None:
        raise PermanentStoreError(f"completing {upload.key!r} failed: {problem}")
    return sum(part.size for part in parts)
