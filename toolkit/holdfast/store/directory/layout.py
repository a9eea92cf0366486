"""The files of a directory store: where they are, and how a file becomes an object."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from holdfast.errors import AlreadyExistsError, NoBucketError, PermanentStoreError
from holdfast.fsync import fsync
from holdfast.store import Absent, Condition, Metadata, Replaces
from holdfast.store.directory.lock import Lock
from holdfast.store.os_errors import opened, os_error, os_errors

OWN = ".holdfast/"
RESERVED = (f"{OWN}tmp/", f"{OWN}metadata/", f"{OWN}uploads/", f"{OWN}locks/")
"""Keys of the store's own files; they name no objects."""


def etag_of(state: os.stat_result) -> str:
    """Return the ETag of a file: another file at the path, or another write to it, has another one."""
    return f'"{state.st_ino:x}-{state.st_mtime_ns:x}-{state.st_size:x}"'


class Layout:
    """The files of a directory store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = Lock(root / OWN / "locks" / "store")

    def path(self, key: str) -> Path:
        """Return the path of the object at a key.

        Raises:
            PermanentStoreError: the key cannot be the name of a file below the root.
        """
        segments = key.split("/")
        if any(segment in ("", ".", "..") for segment in segments) or "\0" in key:
            raise PermanentStoreError(f"{key!r} cannot be the name of a file below {self.root}")
        if f"{key}/".startswith(RESERVED):
            raise PermanentStoreError(f"{key!r} is where the store {self.root} keeps its own files")
        path = self.root / key
        if len(segments) > 1 and not Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(self.root)):
            raise PermanentStoreError(f"{key!r} leads out of {self.root} by a symbolic link")
        return path

    def place(self, key: str) -> Path:
        """Return the path of a new object, before bytes are written for it.

        Raises:
            AlreadyExistsError: the path is a directory.
            PermanentStoreError: as `path`.
        """
        path = self.path(key)
        if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114  pathlib's raise for long names
            raise _is_a_directory(path, key)
        return path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let no other process check and write meanwhile, where the file system has locks.

        Raises:
            TransientStoreError: another process holds the lock, and does not continue.
        """
        self.make_directories(self.root / OWN / "locks")
        with self._lock.held():
            yield

    @contextmanager
    def new_file(self, key: str) -> Iterator[tuple[Path, int]]:
        """Create an empty file for a key, and return its path and descriptor. Unless it is published it is deleted."""
        self.place(key)
        directory = self.root / OWN / "tmp"
        self.make_directories(directory)
        path = directory / secrets.token_hex(8)
        try:
            with opened(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, "create") as descriptor:
                yield path, descriptor
        finally:
            path.unlink(missing_ok=True)

    def make_directories(self, directory: Path) -> None:
        """Make a directory below the root, and the root where only its last component is missing.

        Raises:
            NoBucketError: the directory that the root should be in does not exist.
        """
        missing = []
        while not directory.is_dir():
            if directory == self.root and not directory.parent.is_dir():
                raise NoBucketError(f"{directory.parent} does not exist: mount or create it, or correct the URI")
            missing.append(directory)
            directory = directory.parent
        for path in reversed(missing):
            with os_errors(path, "create"):
                path.mkdir(exist_ok=True)
                fsync(path.parent)

    def publish(
        self, file: Path, descriptor: int, key: str, metadata: Metadata | None, condition: Condition | None
    ) -> str:
        """Sync an open file and make it the object of a key, in one step, and return its ETag. Its own name may stay.

        Raises:
            AlreadyExistsError: the condition does not hold (`Absent` neither where the path is a directory, or has a
            file as its parent).
        """
        with os_errors(file, "sync"):
            os.fsync(descriptor)
            etag = etag_of(os.fstat(descriptor))
        target = self.path(key)
        if isinstance(condition, Absent) and any(parent.is_file() for parent in target.parents):
            raise AlreadyExistsError(f"there is an object where the directory of {key!r} should be")
        self.make_directories(target.parent)
        self._write_metadata(key, etag, metadata or {})
        before = None
        try:
            match condition:
                case None:
                    before = _replace(file, target, key, None)
                case Absent():
                    _link(file, target, key)
                case Replaces(replaced):
                    with self.locked():
                        before = _replace(file, target, key, replaced)
        except BaseException:
            self.forget(key, etag)
            raise
        if before is not None:
            self.forget(key, before)
        with os_errors(target.parent, "sync"):
            fsync(target.parent)
        return etag

    def metadata(self, key: str, etag: str) -> dict[str, str]:
        """Return the metadata of an object; a file that another program wrote has none."""
        path = self._metadata_path(key, etag)
        try:
            metadata = json.loads(path.read_bytes())["metadata"]
            return {str(name): str(value) for name, value in metadata.items()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise os_error(error, path, "read") from error
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise PermanentStoreError(
                f"{path} is damaged: delete it, and {key!r} is an object without metadata"
            ) from error

    def forget(self, key: str, etag: str) -> None:
        """Delete the metadata of an object that is gone."""
        with suppress(OSError):
            self._metadata_path(key, etag).unlink()

    def _metadata_path(self, key: str, etag: str) -> Path:
        # A name of fixed length: quoted, a long key would be longer than a file system's names may be. With the ETag
        # in it, of two writers of one key each has its own.
        name = hashlib.sha256(f"{key}\0{etag}".encode("utf-8", "surrogateescape")).hexdigest()
        return self.root / OWN / "metadata" / f"{name}.json"

    def _write_metadata(self, key: str, etag: str, metadata: Metadata) -> None:
        if not metadata:
            return
        path = self._metadata_path(key, etag)
        self.make_directories(path.parent)
        text = json.dumps({"key": key, "etag": etag, "metadata": dict(metadata)}, sort_keys=True)
        with os_errors(path, "write"), path.open("w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


def _replace(file: Path, target: Path, key: str, replaces: str | None) -> str | None:
    """Rename a file to its key, if the object there may be replaced; return its ETag, None where there was none."""
    before = None
    with suppress(OSError):
        before = etag_of(target.lstat())
    if replaces not in (None, before):
        raise AlreadyExistsError(f"the object at {key!r} is gone, or is not the one to be replaced")
    with os_errors(target, "write"):
        file.replace(target)
    return before


def _is_a_directory(target: Path, key: str) -> AlreadyExistsError:
    return AlreadyExistsError(f"{target} is a directory: {key!r} cannot be a file beside the files in it")


def _link(file: Path, target: Path, key: str) -> None:
    try:
        os.link(file, target, follow_symlinks=False)
    except FileExistsError as error:
        existing = target.lstat()
        if os.path.samestat(existing, file.lstat()):
            return  # NFS: the answer to the first try was lost
        if stat.S_ISDIR(existing.st_mode):
            raise _is_a_directory(target, key) from error
        raise AlreadyExistsError(f"there is an object at {key!r} already") from error
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
            raise PermanentStoreError(
                f"cannot link {target}: {error.strerror}; the file system needs hard links, for conditional writes"
            ) from error
        raise os_error(error, target, "write") from error
