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
from holdfast.store.os_errors import opened, os_errors

_TEMPORARY = "tmp/"
"""Beginning of the ids of files that `put` or `copy` were writing when their process was killed."""


class Uploads:
    """The multipart uploads that have begun; each is a directory with the files `key` and `whole`.

    The id of an upload ends with its part size, which determines the offsets of the parts in `whole`.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lock = threading.Lock()
        self._written: dict[str, set[int]] = {}
        """Parts that this process has written, by upload: those of an earlier process may be lost with its machine."""

    def begin(self, key: str, part_size: int) -> str:
        """Begin an upload and return its id."""
        self._layout.place(key)  # an impossible key is refused before anything is written
        identity = f"{secrets.token_hex(8)}-{part_size}"
        directory = self._directory(identity)
        self._layout.make_directories(directory)
        with os_errors(directory, "write"):
            (directory / "key").write_bytes(os.fsencode(key))
        return identity

    def write(self, upload: Upload, number: int, part: Part) -> StoredPart:
        """Store a part."""
        with self._place(upload, number, part.size) as (descriptor, path, offset):
            write_part(part, descriptor, path, offset)
        return _stored(number, part.size, part.crc64nvme)

    def copy(self, upload: Upload, number: int, source: int, *, offset: int, size: int) -> StoredPart:
        """Store a range of an open file as a part."""
        if offset + size > os.fstat(source).st_size:
            raise PermanentStoreError(f"part {number} of {upload.key!r} cannot be copied: its source ends before that")
        with self._place(upload, number, size) as (descriptor, path, to):
            crc = copy_range(source, descriptor, path, offset=offset, size=size, to=to)
        return _stored(number, size, crc)

    @contextmanager
    def _place(self, upload: Upload, number: int, size: int) -> Iterator[tuple[int, Path, int]]:
        """Give the descriptor, path and offset for a part. Raises NotFoundError: the upload has ended."""
        path, step = self._existing(upload) / "whole", _part_size(upload)
        if size > step:
            raise PermanentStoreError(f"part {number} of {upload.key!r} has {size:,} bytes, more than {step:,}")
        with opened(path, os.O_RDWR | os.O_CREAT, "create") as descriptor:
            yield descriptor, path, (number - 1) * step
        with self._lock:
            self._written.setdefault(upload.id, set()).add(number)

    @contextmanager
    def finished(self, upload: Upload, parts: Sequence[StoredPart], crc64nvme: int) -> Iterator[tuple[Path, int]]:
        """Give path and descriptor of the whole file, compared with the checksum and ready to be published.

        Raises:
            NotFoundError: the upload has ended.
            PermanentStoreError: the parts do not fit together, or one is lost.
        """
        whole = self._existing(upload) / "whole"
        written = self._written.get(upload.id, set())
        ordered = sorted(parts, key=lambda part: part.number)
        total = _check(upload, ordered, crc64nvme)
        with opened(whole, os.O_RDWR | os.O_CREAT, "write") as descriptor:
            for part in ordered:
                if part.number not in written:
                    _refuse_if_lost(part, descriptor, whole, (part.number - 1) * _part_size(upload))
            with os_errors(whole, "write"):
                os.ftruncate(descriptor, total)
            yield whole, descriptor

    def drop(self, upload: Upload) -> None:
        """Delete an upload and its parts, or a temporary file; a missing one is not an error."""
        with self._lock:
            self._written.pop(upload.id, None)
        path = self._layout.root / OWN / upload.id
        if not upload.id.startswith(_TEMPORARY):
            path = self._directory(upload.id)
        with os_errors(path, "delete"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def unfinished(self) -> Iterator[UnfinishedUpload]:
        """Yield the uploads that have begun, and temporary files: without a key, as old as their last write."""
        for path in self._names("uploads"):
            with suppress(FileNotFoundError):  # aborted meanwhile
                note = path / "key"
                killed = not note.exists()  # before the key was written
                key, began = ("", path) if killed else (os.fsdecode(note.read_bytes()), note)
                yield UnfinishedUpload(Upload(key, path.name), began.lstat().st_mtime)
        for path in self._names("tmp"):
            with suppress(FileNotFoundError):
                yield UnfinishedUpload(Upload("", f"{_TEMPORARY}{path.name}"), path.lstat().st_mtime)

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


def _part_size(upload: Upload) -> int:
    try:
        return int(upload.id.rpartition("-")[2])
    except ValueError as error:
        raise NotFoundError(f"{upload.id!r} names no upload of {upload.key!r}") from error


def _refuse_if_lost(part: StoredPart, descriptor: int, path: Path, offset: int) -> None:
    if checksum_range(descriptor, path, offset=offset, size=part.size) != part.crc64nvme:
        raise PermanentStoreError(f"part {part.number} in {path} was never stored, or is lost: send it again")


def _stored(number: int, size: int, crc: int) -> StoredPart:
    return StoredPart(number, f'"{crc:016x}"', size, crc)


def _check(upload: Upload, parts: Sequence[StoredPart], crc64nvme: int) -> int:
    """Return the size of the whole, or raise when the parts do not make it up."""
    problem: str | None = None
    if [part.number for part in parts] != list(range(1, len(parts) + 1)) or not parts:
        problem = "its parts are not numbered 1, 2, …"
    elif any(part.size != _part_size(upload) for part in parts[:-1]) or parts[-1].size > _part_size(upload):
        problem = "its parts but the last are not of the same size"
    else:
        # A directory store computes the checksum of every part.
        whole = combine_all((part.crc64nvme or 0, part.size) for part in parts)
        if whole != crc64nvme:
            problem = "the checksums of its parts do not make up that of the whole"
    if problem is not None:
        raise PermanentStoreError(f"completing {upload.key!r} failed: {problem}")
    return sum(part.size for part in parts)
