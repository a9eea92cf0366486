"""A store in a directory: EFS, NFS, FSx, or a disk for trying things out.

An object is a file at its key; symbolic links are not objects. Below `.holdfast/` in the directory there are four
places that are never listed:

    tmp/            temporary files: written, synced, then linked or renamed to their key
    locks/          the lock between a check and its write
    metadata/       user metadata, one JSON file for each object that has some
    uploads/<id>/   multipart uploads that have begun

A killed process leaves its files in tmp/ and uploads/. They are not used again: `unfinished_uploads` yields them, and
`abort_upload` deletes them. Directories that become empty stay.

Of several writers with `Absent` exactly one wins, on every host: the file is linked to its key. A file system has no
such step for `Replaces` and for the `etag` of a deletion: the file is checked, and then replaced or unlinked. An
advisory lock makes the two one step for all holdfast processes on this machine, and on others where the file system
passes locks on. Without locks, and for programs other than holdfast, a write between the two is lost.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from holdfast.errors import (
    AlreadyExistsError,
    DamagedError,
    NoBucketError,
    NotFoundError,
    PermanentStoreError,
    TransientStoreError,
)
from holdfast.store import (
    Condition,
    Content,
    Metadata,
    ObjectInfo,
    ObjectRange,
    Part,
    Sink,
    StoredPart,
    UnfinishedUpload,
    Upload,
)
from holdfast.store.body import range_blocks, write_part
from holdfast.store.directory.layout import RESERVED, Layout, etag_of
from holdfast.store.directory.ranges import copy_range
from holdfast.store.directory.uploads import Uploads
from holdfast.store.os_errors import os_error

# The path has no file, or only a symbolic link, or a file where a directory should be.
_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


class DirectoryStore:
    """The files of a directory as objects. What is written is durable when the method returns.

    Args:
        root: absolute path. Where only its last component is missing, the first write creates it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._layout = Layout(root)
        self._uploads = Uploads(self._layout)

    def check(self) -> None:
        """Pass also for a root that the first write would create."""
        try:
            with os.scandir(self._root) as entries:
                next(entries, None)
        except FileNotFoundError as error:
            if not self._root.parent.is_dir():
                raise NoBucketError(
                    f"{self._root.parent} does not exist: mount or create it, or correct the URI"
                ) from error
        except NotADirectoryError as error:
            raise NoBucketError(f"{self._root} is not a directory: correct the URI") from error
        except OSError as error:
            raise os_error(error, self._root, "list") from error

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self.check()
        yield from self._walk("", prefix)

    def _walk(self, directory: str, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects below a directory (empty, or with a slash at its end) whose keys start with `prefix`."""
        path = self._root / directory
        try:
            with os.scandir(path) as found:
                entries = [
                    (os.fsencode(entry.name) + b"/" * entry.is_dir(follow_symlinks=False), entry) for entry in found
                ]
        except OSError as error:
            if error.errno in _MISSING:
                return
            raise os_error(error, path, "list") from error
        # A directory is sorted with its slash, so that the keys come in the order of their bytes.
        for name, entry in sorted(entries, key=lambda pair: pair[0]):
            key = directory + os.fsdecode(name)
            if name.endswith(b"/"):
                if key not in RESERVED and (key.startswith(prefix) or prefix.startswith(key)):
                    yield from self._walk(key, prefix)
            elif key.startswith(prefix):
                try:
                    state = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(state.st_mode):
                    yield ObjectInfo(key, state.st_size, etag_of(state), state.st_mtime)

    def head(self, key: str) -> ObjectInfo:
        with self._opened(key, None) as descriptor:
            state = os.fstat(descriptor)
        etag = etag_of(state)
        return ObjectInfo(key, state.st_size, etag, state.st_mtime, metadata=self._layout.metadata(key, etag))

    def read(self, key: str, *, offset: int = 0, size: int | None = None, etag: str | None = None, sink: Sink) -> None:
        with self._opened(key, etag) as descriptor:
            length = os.fstat(descriptor).st_size
            end = length if size is None else offset + size
            if offset <= length:
                for block in range_blocks(descriptor, self._root / key, offset, end - offset):
                    offset += len(block)
                    sink(block)
            if offset != end:
                length = min(length, offset)
                raise TransientStoreError(f"reading {key!r} ended after {length:,} of {max(end, offset):,} bytes")

    @contextmanager
    def _opened(self, key: str, etag: str | None) -> Iterator[int]:
        """Open the file of a key, which has this ETag before and after the `with`. Raises NotFoundError."""
        path = self._layout.path(key)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in _MISSING:
                self.check()
                raise NotFoundError(f"there is no object {key!r} below {self._root}") from error
            raise os_error(error, path, "open") from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise NotFoundError(f"{path} is not a file")
            _expect(key, descriptor, etag)
            yield descriptor
            _expect(key, descriptor, etag)
        finally:
            os.close(descriptor)

    def put(self, key: str, part: Part, *, metadata: Metadata | None = None, condition: Condition | None = None) -> str:
        with self._layout.new_file(key) as (path, descriptor):
            write_part(part, descriptor, path, 0)
            return self._layout.publish(path, descriptor, key, metadata, condition)

    def copy(
        self, source: Content, key: str, *, metadata: Metadata | None = None, condition: Condition | None = None
    ) -> str:
        if source.key == key:
            raise PermanentStoreError(f"{key!r} cannot be copied onto itself")
        self._layout.path(source.key)  # an impossible key is refused before anything is written
        with self._layout.new_file(key) as (path, descriptor):
            with self._opened(source.key, source.etag) as origin:
                copied = copy_range(origin, descriptor, path, offset=0, size=source.size, to=0)
            _compare(source, copied)
            return self._layout.publish(path, descriptor, key, metadata, condition)

    def begin_upload(self, key: str, *, part_size: int, metadata: Metadata | None = None) -> Upload:
        return Upload(key, self._uploads.begin(key, part_size), dict(metadata or {}))

    def put_part(self, upload: Upload, number: int, part: Part) -> StoredPart:
        return self._uploads.write(upload, number, part)

    def put_part_copy(self, upload: Upload, number: int, source: ObjectRange) -> StoredPart:
        with self._opened(source.key, source.etag) as origin:
            part = self._uploads.copy(upload, number, origin, offset=source.offset, size=source.size)
        _compare(source, part.crc64nvme)
        return part

    def complete_upload(
        self, upload: Upload, parts: Sequence[StoredPart], *, crc64nvme: int, condition: Condition | None = None
    ) -> str:
        with self._uploads.finished(upload, parts, crc64nvme) as (path, descriptor):
            etag = self._layout.publish(path, descriptor, upload.key, upload.metadata, condition)
        self._uploads.drop(upload)
        return etag

    def abort_upload(self, upload: Upload) -> None:
        self._uploads.drop(upload)

    def unfinished_uploads(self) -> Iterator[UnfinishedUpload]:
        self.check()
        yield from self._uploads.unfinished()

    def delete(self, key: str, *, etag: str | None = None) -> None:
        path = self._layout.path(key)
        if etag is None:
            self._unlink(path, key, None)
        elif os.path.lexists(path):
            with self._layout.locked():
                self._unlink(path, key, etag)

    def _unlink(self, path: Path, key: str, etag: str | None) -> None:
        try:
            existing = etag_of(path.lstat())
            if etag not in (None, existing):
                raise AlreadyExistsError(f"{key!r} is not deleted: it has other content by now")
            path.unlink()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise os_error(error, path, "delete") from error
        else:
            self._layout.forget(key, existing)


def _expect(key: str, descriptor: int, etag: str | None) -> None:
    if etag is not None and etag != etag_of(os.fstat(descriptor)):
        raise DamagedError(f"object {key!r} is no longer the recorded content: another writer has replaced it")


def _compare(source: Content | ObjectRange, copied: int | None) -> None:
    if source.crc64nvme not in (None, copied):
        raise DamagedError(f"the copy of {source.key!r} has another CRC64NVME than the recorded one")
