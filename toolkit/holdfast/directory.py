"""A store in a directory: EFS, NFS, a local disk, tests.

Objects are files below the root. The user metadata of an object lies in `.holdfast/metadata/`, one small file under a name
made of key and ETag: a file that somebody else put there later has another ETag, and so no metadata.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from holdfast import checksum
from holdfast.body import PIECE, os_error, pieces
from holdfast.errors import (
    AlreadyExistsError,
    DamagedError,
    NoBucketError,
    NotFoundError,
    PermanentStoreError,
    TransientStoreError,
)
from holdfast.names import OWN_DIRECTORY, unsafe_reason
from holdfast.store import ObjectInfo, Part, Sink, StoredPart, Upload

_PRIVATE = ("metadata", "tmp", "uploads")


class DirectoryStore:
    """The files below one directory.

    Args:
        root: the directory; `check` makes it when its parent exists.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._own = root / OWN_DIRECTORY

    def check(self) -> None:
        """As `Store.check`. A directory of which only the last name is missing is made."""
        try:
            self._root.mkdir(exist_ok=True)
            os.listdir(self._root)
        except FileNotFoundError as error:
            raise NoBucketError(f"{self._root.parent} does not exist: mount it, or correct the URI") from error
        except FileExistsError as error:
            raise NoBucketError(f"{self._root} is no directory: correct the URI") from error
        except OSError as error:
            raise os_error(error, self._root, "list") from error

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """As `Store.list`."""
        try:
            found = [path for path in self._files(self._root) if os.fsencode(path).startswith(prefix.encode())]
        except OSError as error:
            raise os_error(error, self._root, "list") from error
        for key in sorted(found, key=os.fsencode):
            with contextlib.suppress(NotFoundError):
                yield self._look(key)

    def _files(self, folder: Path) -> Iterator[str]:
        for entry in os.scandir(folder):
            if folder == self._own and entry.name in _PRIVATE:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._files(Path(entry.path))
            elif entry.is_file():
                yield os.path.relpath(entry.path, self._root)

    def head(self, key: str) -> ObjectInfo:
        """As `Store.head`."""
        info = self._look(key)
        metadata: dict[str, str] = {}
        try:
            kept = json.loads(self._metadata_path(key, info.etag).read_bytes())
            metadata = {str(name): str(value) for name, value in kept.items()}
        except (FileNotFoundError, ValueError, AttributeError):
            metadata = {}  # nobody wrote any, or it is none of ours
        except OSError as error:
            raise os_error(error, self._own, "read metadata of") from error
        return ObjectInfo(info.key, info.size, info.etag, info.modified, metadata)

    def _look(self, key: str) -> ObjectInfo:
        path = self._path(key)
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFoundError(f"there is no {path}") from error
        except OSError as error:
            raise os_error(error, path, "read") from error
        return ObjectInfo(key, status.st_size, _etag(status), status.st_mtime)

    def read(self, key: str, *, offset: int = 0, size: int | None = None, etag: str | None = None, sink: Sink) -> None:
        """As `Store.read`."""
        path = self._path(key)
        try:
            with path.open("rb", buffering=0) as file:
                if etag is not None and _etag(os.fstat(file.fileno())) != etag:
                    raise DamagedError(f"{path} has changed since it was recorded")
                file.seek(offset)
                buffer = memoryview(bytearray(PIECE))
                left = size
                while left is None or left > 0:
                    got = file.readinto(buffer if left is None else buffer[:left])
                    if not got:
                        break
                    sink(buffer[:got])
                    left = None if left is None else left - got
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFoundError(f"there is no {path}") from error
        except OSError as error:
            raise os_error(error, path, "read") from error
        if left:
            raise TransientStoreError(f"{path}: {left:,} bytes are missing")

    def put(
        self, key: str, part: Part, *, metadata: Mapping[str, str] | None = None, only_if_absent: bool = False
    ) -> str:
        """As `Store.put`: written beside, fsynced, and renamed (or linked, where it must not exist)."""
        target = self._path(key)
        temporary = self._own / "tmp" / secrets.token_hex(16)
        try:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb", buffering=0) as file:
                _write_pieces(file.fileno(), part, 0)
                os.fsync(file.fileno())
            return self._publish(temporary, target, key, metadata, only_if_absent=only_if_absent)
        except OSError as error:
            raise os_error(error, target, "write") from error
        finally:
            _forget(temporary)

    def begin_upload(self, key: str, *, metadata: Mapping[str, str] | None = None) -> Upload:
        """As `Store.begin_upload`."""
        self._path(key)
        upload = Upload(key, secrets.token_hex(16), dict(metadata or {}))
        path = self._upload_path(upload)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(exist_ok=False)
        except OSError as error:
            raise os_error(error, path, "write") from error
        return upload

    def put_part(self, upload: Upload, number: int, part: Part) -> StoredPart:
        """As `Store.put_part`: each part goes to a file of its own, since only the last one's size may differ."""
        path = self._part_path(upload, number)
        if not self._upload_path(upload).exists():
            raise NotFoundError(f"there is no upload {upload.id}")
        try:
            with path.open("wb", buffering=0) as file:
                _write_pieces(file.fileno(), part, 0)
        except OSError as error:
            raise os_error(error, path, "write") from error
        return StoredPart(number, checksum.to_hex(part.crc64nvme), part.size, part.crc64nvme)

    def complete_upload(
        self, upload: Upload, parts: Sequence[StoredPart], *, crc64nvme: int, only_if_absent: bool = False
    ) -> str:
        """As `Store.complete_upload`."""
        target, whole = self._path(upload.key), self._upload_path(upload)
        crc = 0
        try:
            with whole.open("r+b", buffering=0) as file:
                file.truncate(0)
                for part in parts:
                    path = self._part_path(upload, part.number)
                    _write_pieces(file.fileno(), Part(path, 0, part.size, part.crc64nvme), file.tell())
                    file.seek(0, os.SEEK_END)
                    crc = checksum.combine(crc, part.crc64nvme, part.size)
                os.fsync(file.fileno())
            if crc != crc64nvme:
                raise PermanentStoreError(f"{target}: the parts do not add up to the file they were made from")
            etag = self._publish(whole, target, upload.key, upload.metadata, only_if_absent=only_if_absent)
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no upload {upload.id}") from error
        except OSError as error:
            raise os_error(error, target, "write") from error
        self.abort_upload(upload)
        return etag

    def abort_upload(self, upload: Upload) -> None:
        """As `Store.abort_upload`."""
        for path in (self._own / "uploads").glob(f"{upload.id}*"):
            _forget(path)

    def delete(self, key: str) -> None:
        """As `Store.delete`. Directories that become empty stay."""
        path = self._path(key)
        try:
            metadata = self._metadata_path(key, _etag(path.stat()))
            path.unlink()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return
        except OSError as error:
            raise os_error(error, path, "delete") from error
        _forget(metadata)

    def _publish(
        self,
        temporary: Path,
        target: Path,
        key: str,
        metadata: Mapping[str, str] | None,
        *,
        only_if_absent: bool,
    ) -> str:
        """Make a finished file visible; its metadata is there before it is."""
        etag = _etag(temporary.stat())
        if only_if_absent and target.exists():
            raise AlreadyExistsError(f"{target} is taken")
        target.parent.mkdir(parents=True, exist_ok=True)
        if metadata:
            self._keep_metadata(key, etag, metadata)
        if only_if_absent:
            try:
                os.link(temporary, target)
            except FileExistsError as error:
                _forget(self._metadata_path(key, etag))
                raise AlreadyExistsError(f"{target} is taken") from error
            temporary.unlink()
        else:
            temporary.replace(target)
        _fsync_directory(target.parent)
        return etag

    def _keep_metadata(self, key: str, etag: str, metadata: Mapping[str, str]) -> None:
        path = self._metadata_path(key, etag)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        fresh.write_text(json.dumps(dict(metadata)))
        fresh.replace(path)

    def _path(self, key: str) -> Path:
        reason = unsafe_reason(key)
        if reason is not None:
            raise PermanentStoreError(f"{key!r} cannot be a file below {self._root}: {reason}")
        return self._root / key

    def _metadata_path(self, key: str, etag: str) -> Path:
        return self._own / "metadata" / sha256(f"{etag} {key}".encode("utf-8", "surrogateescape")).hexdigest()

    def _upload_path(self, upload: Upload) -> Path:
        return self._own / "uploads" / upload.id

    def _part_path(self, upload: Upload, number: int) -> Path:
        return self._own / "uploads" / f"{upload.id}.{number:05d}"


def _etag(status: os.stat_result) -> str:
    return f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"'


def _write_pieces(descriptor: int, part: Part, offset: int) -> None:
    for piece in pieces(part):
        while piece:
            written = os.pwrite(descriptor, piece, offset)
            piece, offset = piece[written:], offset + written


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _forget(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
