"""Download objects to files, large ones in parallel parts, with a checksum computed on the way."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from holdfast.checksum import combine_all, crc64nvme, to_hex
from holdfast.errors import DamagedError, DiskFullError, HoldfastError, NotFoundError
from holdfast.store import Store
from holdfast.store.os_errors import os_error, os_errors
from holdfast.transfer.parallel import Transfer
from holdfast.transfer.part_checksums import Grid
from holdfast.transfer.parts import MIB, ranges, sum_range


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An object to download.

    Attributes:
        etag: required ETag (default: any).
        crc64nvme: required checksum (default: any).
        grid: checksums of the parts (default: unknown).
    """

    key: str
    size: int
    etag: str | None = None
    crc64nvme: int | None = None
    grid: Grid | None = None


def download_file(
    transfer: Transfer, source: Source, destination: Path, *, kept: Callable[[int], None] = lambda size: None
) -> int:
    """Download an object to a file, check it, and return its CRC64NVME. On any error there is no file.

    A damaged download is repeated once: the damage may have happened on the way.

    With a grid, parts that the file already has are not fetched. A stop, or an error of the connection, then leaves the
    file as it is, and the next download continues there.

    Args:
        transfer: its `progress` is called with a negative number when what had arrived was damaged.
        destination: the file, new or to be replaced, in an existing directory. It has its full size before it has its
            content: use a temporary name where that must not be seen.
        kept: called with the bytes of each part that the file already had; `progress` is called with them too.

    Raises:
        DamagedError: the object has another ETag or checksum.
        DiskFullError: the file system of `destination` has no room for it.
        StoppedError: stopped.
    """
    arrived = 0

    def count(length: int) -> None:
        nonlocal arrived
        arrived += length
        transfer.progress(length)

    fetch = partial(_fetch, replace(transfer, progress=count), source, destination, kept)
    try:
        try:
            return fetch()
        except DamagedError:
            count(-arrived)
            return fetch()
    except BaseException as error:
        if source.grid is None or isinstance(error, DamagedError | NotFoundError | DiskFullError):
            destination.unlink(missing_ok=True)
        raise


def _fetch(transfer: Transfer, source: Source, path: Path, kept: Callable[[int], None]) -> int:
    """Download once. On an error the file stays."""
    doing = f"fetching {source.key!r}"
    if source.size <= MIB:
        transfer.stop.refuse_if_stopped(doing)
        crc = _fetch_small(transfer, source, path)
    else:
        with closing(_Target(path, anew=source.grid is None)) as target:
            found = {}
            for start, length, part_crc, had in transfer.run(_jobs(transfer.store, source, target), doing):
                found[start] = part_crc, length
                transfer.progress(length)
                if had:
                    kept(length)
        crc = combine_all(part for _, part in sorted(found.items()))
    if source.crc64nvme is not None and crc != source.crc64nvme:
        raise DamagedError(f"object {source.key!r} has CRC64NVME {to_hex(crc)} instead of {to_hex(source.crc64nvme)}")
    return crc


def _fetch_small(transfer: Transfer, source: Source, path: Path) -> int:
    """Download a small object to memory, and write it with one call."""
    content = bytearray()
    # An empty object is read too: it may have been deleted or replaced.
    transfer.store.read(source.key, size=source.size, etag=source.etag, sink=content.extend)
    with closing(_Target(path, anew=True)) as target:
        target.write(memoryview(content), 0)
    transfer.progress(source.size)
    return crc64nvme(content)


def _jobs(store: Store, source: Source, target: _Target) -> Iterator[Callable[[], tuple[int, int, int, bool]]]:
    """Return a job for each part. The parts of a file that has its size already may be there."""
    parts: Iterator[tuple[int | None, int, int]] = ((None, *part) for part in ranges(source.size))
    if target.reserve(source.size) and source.grid is not None:
        parts = source.grid.parts(source.size)
    return (partial(_fetch_part, store, source, target, *part) for part in parts)


def _fetch_part(
    store: Store, source: Source, target: _Target, expected: int | None, start: int, length: int
) -> tuple[int, int, int, bool]:
    """Fetch a part into its place in the file; return (start, length, checksum, whether the file already had it)."""
    if expected is not None and sum_range(target.path, start, length) == expected:
        return start, length, expected, True
    crc, position = 0, start

    def write(chunk: memoryview) -> None:
        nonlocal crc, position
        crc = crc64nvme(chunk, crc)
        target.write(chunk, position)
        position += len(chunk)

    store.read(source.key, offset=start, size=length, etag=source.etag, sink=write)
    return start, length, crc, False


class _Target:
    """The file that a download writes, from several threads."""

    def __init__(self, path: Path, *, anew: bool) -> None:
        self.path = path
        with os_errors(path, "create"):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if anew else 0)
            self._descriptor = os.open(path, flags, 0o666)
        # The kernel lets one thread at a time write to a file while the others spin: here they wait.
        self._turn = threading.Lock()

    def close(self) -> None:
        os.close(self._descriptor)

    def reserve(self, size: int) -> bool:
        """Allocate the file's blocks, so that a full disk is an error before the first byte travels.

        Return whether the file had this size before; one of another size is emptied.
        """
        is_like = os.fstat(self._descriptor).st_size == size
        if not is_like:
            os.ftruncate(self._descriptor, 0)
        try:
            os.posix_fallocate(self._descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                raise self._error(error, size) from error
            os.ftruncate(self._descriptor, size)
        return is_like

    def write(self, data: memoryview, offset: int) -> None:
        needed = len(data)
        try:
            with self._turn:
                while data:
                    written = os.pwrite(self._descriptor, data, offset)
                    offset += written
                    data = data[written:]
        except OSError as error:
            raise self._error(error, needed) from error

    def _error(self, error: OSError, needed: int) -> HoldfastError:
        place, name = self.path.parent, self.path.name
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return DiskFullError(f"{place} has no room for {needed:,} bytes of {name}: give it a larger volume")
        if error.errno == errno.EFBIG:
            return DiskFullError(
                f"{place} takes no file of {needed:,} bytes: raise the limit (ulimit -f), or use another file system"
            )
        return os_error(error, self.path, "write")
