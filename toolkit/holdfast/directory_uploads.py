"""Multipart uploads in a directory store."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

from holdfast.body import os_errors, write_part
from holdfast.checksum import combine
from holdfast.directory_layout import OWN, Layout
from holdfast.errors import NotFoundError, PermanentStoreError
from holdfast.store import Part, StoredPart, Upload


class Uploads:
    """The multipart uploads that have begun; each is a directory with a file `whole`.

    Part 1 says how large the parts are, so that the others can be written to their places in `whole`. A part that comes
    before part 1 waits in a file of its own, named by its number.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lock = threading.Lock()
        self._part_sizes: dict[str, int] = {}

    def begin(self) -> str:
        """Begin an upload and return its id."""
        identity = secrets.token_hex(8)
        self._layout.make_directories(self._directory(identity))
        return identity

    def write(self, upload: Upload, number: int, part: Part) -> StoredPart:
        """Store a part.

        Raises:
            NotFoundError: there is no such upload any more.
        """
        directory = self._existing(upload)
        waiting = directory / str(number)
        with self._lock:
            if number == 1:
                self._part_sizes[upload.id] = part.size
            size = self._part_sizes.get(upload.id)
        in_place = size is not None and part.size <= size
        path, offset = (directory / "whole", (number - 1) * (size or 0)) if in_place else (waiting, 0)
        with os_errors(path, "create"):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            write_part(part, descriptor, path, offset)
        finally:
            os.close(descriptor)
        if in_place:
            waiting.unlink(missing_ok=True)
        return StoredPart(number, f'"{part.crc64nvme:016x}"', part.size, part.crc64nvme)

    def finish(self, upload: Upload, parts: Sequence[StoredPart], crc64nvme: int) -> Path:
        """Return the whole file, synced, checked against the checksum and ready to be published.

        Raises:
            NotFoundError: there is no such upload any more.
            PermanentStoreError: the parts do not fit together.
        """
        directory = self._existing(upload)
        whole = directory / "whole"
        ordered = sorted(parts, key=lambda part: part.number)
        total = _check(upload, ordered, crc64nvme)
        with os_errors(whole, "write"):
            descriptor = os.open(whole, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                for part in ordered:
                    waiting = directory / str(part.number)
                    if waiting.exists():
                        source = Part(waiting, 0, part.size, part.crc64nvme)
                        write_part(source, descriptor, whole, (part.number - 1) * ordered[0].size)
                if os.fstat(descriptor).st_size < total:
                    raise PermanentStoreError(f"completing {upload.key!r} failed: not all of its parts were stored")
                os.ftruncate(descriptor, total)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        return whole

    def drop(self, upload: Upload) -> None:
        """Delete an upload and its parts; one that is gone already is no error."""
        with self._lock:
            self._part_sizes.pop(upload.id, None)
        directory = self._directory(upload.id)
        if directory.exists():
            with os_errors(directory, "delete"):
                shutil.rmtree(directory)

    def _directory(self, identity: str) -> Path:
        return self._layout.root / OWN / "uploads" / identity

    def _existing(self, upload: Upload) -> Path:
        directory = self._directory(upload.id)
        if not directory.is_dir():
            raise NotFoundError(f"the upload of {upload.key!r} has ended: it was completed or dropped")
        return directory


def _check(upload: Upload, parts: Sequence[StoredPart], crc64nvme: int) -> int:
    """Return the size of the whole, or raise when the parts are not what it is made of."""
    problem: str | None = None
    if [part.number for part in parts] != list(range(1, len(parts) + 1)) or not parts:
        problem = "its parts are not numbered 1, 2, …"
    elif any(part.size != parts[0].size for part in parts[:-1]) or parts[-1].size > parts[0].size:
        problem = "its parts but the last are not of the same size"
    else:
        whole = 0
        for part in parts:
            whole = combine(whole, part.crc64nvme, part.size)
        if whole != crc64nvme:
            problem = "the checksums of its parts do not make up that of the whole"
    if problem is not None:
        raise PermanentStoreError(f"completing {upload.key!r} failed: {problem}")
    return sum(part.size for part in parts)
