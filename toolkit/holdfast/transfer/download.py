"""Download objects to files, large ones in parallel parts, with a checksum computed on the way."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

from holdfast.checksum import combine_all, crc64nvme, to_hex
from holdfast.errors import DamagedError, DiskFullError, HoldfastError, NotFoundError
from holdfast.stop import NEVER, StopToken
from holdfast.store import Store
from holdfast.store.os_errors import os_error
from holdfast.transfer.parallel import side_by_side
from holdfast.transfer.part_checksums import Grid
from holdfast.transfer.parts import MIB, ranges, sum_range

Progress = Callable[[int], None]


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
    stop: StopToken = NEVER,
    grid: Grid | None = None,
    kept: Progress | None = None,
) -> int:
    """Download an object to a file, check it, and return its CRC64NVME. On any error there is no file.

    A damaged download is repeated once: the damage may have happened on the way.

    With a grid, parts that the file already has are not fetched. A stop, or an error of the connection, then leaves the
    file as it is, and the next download continues there.

    Args:
        store: the store.
        key: key of the object.
        destination: the file, new or to be replaced, in an existing directory. It has its full size before it has its
            content: use a temporary name where that must not be seen.
        size: size of the object in bytes.
        etag: required ETag; None for any.
        expected_crc: required CRC64NVME (default: any).
        workers: executor for the parts of a large object (default: one after the other, in this thread).
        progress: called in this thread with the bytes of each part that has arrived; with a negative number when what
            had arrived was damaged.
        stop: ends it between two parts.
        grid: checksums of the parts (default: unknown).
        kept: called with the bytes of each part that the file already had; `progress` is called with them too.

    Raises:
        DamagedError: the object has another ETag or checksum.
        DiskFullError: the file system of `destination` has no room for it.
        StoppedError: stopped by `stop`.
        StoreError: the object cannot be read, or the file cannot be written.
    """
    arrived = 0

    def count(length: int) -> None:
        nonlocal arrived
        arrived += length
        (progress or _ignore)(length)

    fetch = partial(
        _fetch, store, key, destination, size, etag, expected_crc, workers, count, stop, grid, kept or _ignore
    )
    try:
        try:
            return fetch()
        except DamagedError:
            count(-arrived)
            return fetch()
    except BaseException as error:
        if grid is None or isinstance(error, DamagedError | NotFoundError | DiskFullError):
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
    stop: StopToken,
    grid: Grid | None,
    kept: Progress,
) -> int:
    """Download once. On an error the file stays."""
    if size <= MIB:
        stop.refuse_if_stopped(f"fetching {key!r}")
        return _fetch_small(store, key, destination, size, etag, expected_crc, count)
    descriptor = _create(destination, anew=grid is None)
    try:
        begun = grid is not None and os.fstat(descriptor).st_size == size
        if grid is not None and not begun:
            os.ftruncate(descriptor, 0)
        _reserve(descriptor, size, destination)
        fetch = partial(_fetch_range, store, key, etag, descriptor, destination, threading.Lock())
        jobs: Iterator[Callable[[], tuple[int, int, int, bool]]]
        if grid is not None and begun:
            jobs = (partial(_keep_or, fetch, destination, *part) for part in grid.parts(size))
        else:
            jobs = (partial(fetch, start, length) for start, length in ranges(size))
        found = {}
        for start, length, crc, travelled in side_by_side(jobs, workers, stop, f"fetching {key!r}"):
            found[start] = (crc, length)
            count(length)
            if not travelled:
                kept(length)
    finally:
        os.close(descriptor)
    whole = combine_all(part for _, part in sorted(found.items()))
    _refuse_if_other(key, whole, expected_crc)
    return whole


def _fetch_small(
    store: Store, key: str, destination: Path, size: int, etag: str | None, expected_crc: int | None, count: Progress
) -> int:
    """Download a small object to memory, check it, and write it with one call."""
    content = bytearray()
    # An empty object is read too: it may have been deleted or replaced.
    store.read(key, size=size, etag=etag, sink=content.extend)
    crc = crc64nvme(content)
    _refuse_if_other(key, crc, expected_crc)
    descriptor = _create(destination, anew=True)
    try:
        _write(descriptor, memoryview(content), 0, destination)
    finally:
        os.close(descriptor)
    count(size)
    return crc


def _refuse_if_other(key: str, crc: int, expected: int | None) -> None:
    if expected is not None and crc != expected:
        raise DamagedError(f"object {key!r} has CRC64NVME {to_hex(crc)} instead of {to_hex(expected)}")


def _create(path: Path, *, anew: bool) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | (os.O_TRUNC if anew else 0) | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise os_error(error, path, "create") from error


def _keep_or(
    fetch: Callable[[int, int], tuple[int, int, int, bool]], path: Path, crc: int, start: int, length: int
) -> tuple[int, int, int, bool]:
    """Fetch a part, unless the file already has it."""
    if sum_range(path, start, length) == crc:
        return start, length, crc, False
    return fetch(start, length)


def _fetch_range(
    store: Store,
    key: str,
    etag: str | None,
    descriptor: int,
    path: Path,
    turn: threading.Lock,
    start: int,
    length: int,
) -> tuple[int, int, int, bool]:
    """Fetch a range into its place in the file; return (start, length, checksum, True: it was fetched).

    The kernel lets one thread at a time write to a file while the others spin: here they wait for the lock `turn`.
    """
    crc, position = 0, start

    def write(chunk: memoryview) -> None:
        nonlocal crc, position
        crc = crc64nvme(chunk, crc)
        with turn:
            _write(descriptor, chunk, position, path)
        position += len(chunk)

    store.read(key, offset=start, size=length, etag=etag, sink=write)
    return start, length, crc, True


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
    """Allocate the file's blocks, so that a full disk is an error before the first byte travels."""
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
