"""Whole files to and from a store, in parts, with bounded memory: what one request of the store protocol cannot do.

Everything here is synchronous. An executor, where one is given, runs the parts of one file side by side; a function
that is given an executor must not itself run in that executor, because it waits for its parts.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

from holdfast.body import os_error
from holdfast.checksum import combine, crc64nvme, to_hex
from holdfast.composing import Composition
from holdfast.copying import SINGLE_COPY, copy_object
from holdfast.errors import DamagedError, DiskFullError, FileChangedError, HoldfastError
from holdfast.known import Known
from holdfast.multipart import side_by_side
from holdfast.parts import (
    MIB,
    PART_SIZE,
    Checksums,
    StoppedError,
    StopQuestion,
    checksum_file,
    ranges,
    refuse_if_stopped,
    whole_file,
)
from holdfast.store import Store

__all__ = [
    "PART_SIZE",
    "SINGLE_COPY",
    "SINGLE_PUT",
    "Checksums",
    "StoppedError",
    "checksum_file",
    "copy_object",
    "download_file",
    "upload_file",
]

Progress = Callable[[int], None]

SINGLE_PUT = 64 << 20
"""A file smaller than this many bytes is one request up: atomic, and nothing to abort."""


def upload_file(
    store: Store,
    key: str,
    path: Path,
    *,
    size: int,
    metadata: Mapping[str, str] | None = None,
    only_if_absent: bool = False,
    workers: Executor | None = None,
    progress: Progress | None = None,
    should_stop: StopQuestion | None = None,
) -> str:
    """Store a file, visible whole or not at all, and return its ETag.

    Args:
        store: where to.
        key: under which key.
        path: the file.
        size: its bytes.
        metadata: user metadata.
        only_if_absent: leave an object that is there already alone.
        workers: runs the parts of a large file; None: one after the other, in this thread.
        progress: gets the bytes of each part that has arrived, always in this thread.
        should_stop: asked between parts.

    Raises:
        FileChangedError: the file has another size, or changed while it was read. Nothing became visible.
        AlreadyExistsError: `only_if_absent` and the key is taken.
        StoppedError: `should_stop` said yes. Nothing became visible.
        StoreError: the store did not take it.
    """
    refuse_if_stopped(should_stop, f"storing {path}")
    if size < SINGLE_PUT:
        etag = store.put(key, whole_file(path, size=size), metadata=metadata, only_if_absent=only_if_absent)
        (progress or _ignore)(size)
        return etag
    sending = Composition(
        store,
        path,
        size,
        known=Known(),
        refuse_if_changed=_guard(path, size),
        workers=workers,
        progress=progress,
        should_stop=should_stop,
    )
    return sending.to(key, metadata=metadata, only_if_absent=only_if_absent).etag


def _guard(path: Path, size: int) -> Callable[[], None]:
    """Return what raises FileChangedError when a file is not, or not any more, as it is now."""

    def look() -> tuple[int, int, int, int]:
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileChangedError(f"{path} is gone") from error
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino

    before = look()

    def refuse_if_changed() -> None:
        if look() != before or before[0] != size:
            raise FileChangedError(f"{path} changed while it was read")

    refuse_if_changed()
    return refuse_if_changed


def download_file(
    store: Store,
    key: str,
    destination: Path,
    *,
    size: int,
    etag: str | None,
    expected_crc: int | None = None,
    workers: Executor | None = None,
    progress: Progress | None = None,
    should_stop: StopQuestion | None = None,
) -> int:
    """Fetch an object into a file, check it, and return its CRC64NVME. On any error there is no file.

    What arrives damaged is fetched once more: what was damaged on the way only is whole the second time.

    Args:
        store: where from.
        key: which object.
        destination: a new file, or one to be replaced; its directory exists. It has its full size before it has its
            content: whoever must not see that gives a temporary name.
        size: the object's bytes.
        etag: the content that is wanted.
        expected_crc: what the checksum must be; None takes what comes.
        workers: fetches the parts of a large object; None: one after the other, in this thread.
        progress: gets the bytes of each part that has arrived, always in this thread; fewer than none when what had
            arrived was damaged.
        should_stop: asked between parts.

    Raises:
        DamagedError: the object is no longer that content, or its checksum is another one.
        DiskFullError: the file system of `destination` has no room for it.
        StoppedError: `should_stop` said yes.
        StoreError: it cannot be read, or the file not be written.
    """
    arrived = 0

    def count(length: int) -> None:
        nonlocal arrived
        arrived += length
        (progress or _ignore)(length)

    fetch = partial(_fetch, store, key, destination, size, etag, expected_crc, workers, count, should_stop)
    try:
        try:
            return fetch()
        except DamagedError:
            count(-arrived)
            return fetch()
    except BaseException:
        destination.unlink(missing_ok=True)
        raise


def _fetch(
    store: Store,
    key: str,
    destination: Path,
    size: int,
    etag: str | None,
    expected_crc: int | None,
    workers: Executor | None,
    count: Progress,
    should_stop: StopQuestion | None,
) -> int:
    """Do what `download_file` does, once; on an error the file stays."""
    if size <= MIB:
        refuse_if_stopped(should_stop, f"fetching {key!r}")
        return _fetch_small(store, key, destination, size, etag, expected_crc, count)
    descriptor = _create(destination)
    try:
        _reserve(descriptor, size, destination)
        fetch = partial(_fetch_range, store, key, etag, descriptor, destination, threading.Lock())
        jobs = (partial(fetch, start, length) for start, length in ranges(size))
        found = {}
        for start, length, crc in side_by_side(jobs, workers, should_stop, f"fetching {key!r}"):
            found[start] = (crc, length)
            count(length)
    finally:
        os.close(descriptor)
    whole = 0
    for _, (crc, length) in sorted(found.items()):
        whole = combine(whole, crc, length)
    _refuse_if_other(key, whole, expected_crc)
    return whole


def _fetch_small(
    store: Store, key: str, destination: Path, size: int, etag: str | None, expected_crc: int | None, count: Progress
) -> int:
    """Fetch a small object into memory, check it, and write it with one call."""
    content = bytearray()
    # Also an empty object is asked for: it may be gone, or another one.
    store.read(key, size=size, etag=etag, sink=content.extend)
    crc = crc64nvme(content)
    _refuse_if_other(key, crc, expected_crc)
    descriptor = _create(destination)
    try:
        _write(descriptor, memoryview(content), 0, destination)
    finally:
        os.close(descriptor)
    count(size)
    return crc


def _refuse_if_other(key: str, crc: int, expected: int | None) -> None:
    if expected is not None and crc != expected:
        raise DamagedError(f"object {key!r} has CRC64NVME {to_hex(crc)} instead of {to_hex(expected)}")


def _create(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise os_error(error, path, "create") from error


def _fetch_range(
    store: Store,
    key: str,
    etag: str | None,
    descriptor: int,
    path: Path,
    turn: threading.Lock,
    start: int,
    length: int,
) -> tuple[int, int, int]:
    """Fetch a range into its place in the file; return (start, length, checksum).

    The kernel lets one thread at a time write to a file, and the others spin: they wait for their `turn` here instead.
    """
    crc, position = 0, start

    def keep(piece: memoryview) -> None:
        nonlocal crc, position
        crc = crc64nvme(piece, crc)
        with turn:
            _write(descriptor, piece, position, path)
        position += len(piece)

    store.read(key, offset=start, size=length, etag=etag, sink=keep)
    return start, length, crc


def _write(descriptor: int, data: memoryview, offset: int, path: Path) -> None:
    needed = len(data)
    try:
        while data:
            written = os.pwrite(descriptor, data, offset)
            offset += written
            data = data[written:]
    except OSError as error:
        raise _write_error(error, path, needed) from error


def _reserve(descriptor: int, size: int, path: Path) -> None:
    """Give the file its size and its blocks now, so that a full disk shows before the first byte travels."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise _write_error(error, path, size) from error
        os.ftruncate(descriptor, size)


def _write_error(error: OSError, path: Path, needed: int) -> HoldfastError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"{path.parent} has no room for {needed:,} bytes of {path.name}: give it a larger volume")
    if error.errno == errno.EFBIG:
        return DiskFullError(
            f"{path.parent} takes no file of {needed:,} bytes: raise the limit (ulimit -f), or use another file system"
        )
    return os_error(error, path, "write")


def _ignore(_: int) -> None:
    pass
