"""Cut files into parts, and compute the checksums of the parts in one reading."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from holdfast.checksum import combine_all, crc64nvme
from holdfast.errors import FileChangedError
from holdfast.stop import NEVER, StopToken
from holdfast.store import Part
from holdfast.store.os_errors import reading

MIB = 1 << 20
PART_SIZE = 16 * MIB
"""Bytes in a part, unless the file needs more than 10,000 of them. A smaller file is downloaded with one request."""
MOST_PARTS = 10_000


@dataclass(frozen=True, slots=True)
class Checksums:
    """The CRC64NVME of a file, and of each of its parts of `part_size(size)` bytes."""

    size: int
    whole: int
    parts: tuple[int, ...]

    @classmethod
    def of(cls, size: int, parts: tuple[int, ...]) -> Checksums:
        """Return the checksums of a file whose parts have these."""
        lengths = (length for _, length in ranges(size))
        return cls(size, combine_all(zip(parts, lengths, strict=True)), parts)


def part_size(size: int) -> int:
    """Return the bytes in each part but the last of a file of `size` bytes: whole MiB, 16 of them at least."""
    return max(PART_SIZE, -(-size // (MOST_PARTS * MIB)) * MIB)


def ranges(size: int) -> Iterator[tuple[int, int]]:
    """Yield (offset, bytes) of each part of a file of `size` bytes."""
    step = part_size(size)
    return ((start, min(step, size - start)) for start in range(0, size, step))


def checksum_file(path: Path, *, size: int | None = None, stop: StopToken = NEVER) -> Checksums:
    """Read a file once and return its checksums.

    Raises:
        FileChangedError: it does not exist, has another size than `size`, or changed its size while it was read.
        StoppedError: stopped between two parts.
    """
    parts = []
    with reading(path), path.open("rb", buffering=0) as file:
        found = os.fstat(file.fileno()).st_size
        if size is not None and found != size:
            raise FileChangedError(f"{path} has {found:,} bytes, and had {size:,} a moment ago")
        buffer = memoryview(bytearray(min(MIB, max(1, found))))
        for _, length in ranges(found):
            stop.refuse_if_stopped(f"reading {path}")
            parts.append(_sum_range(file.readinto, buffer, length, path))
        if os.fstat(file.fileno()).st_size != found:
            raise FileChangedError(f"{path} changed its size while it was read")
    return Checksums.of(found, tuple(parts))


class PartSums:
    """Compute the checksums of a file's parts, each at most once. Thread-safe for different parts.

    Attributes:
        ranges: (offset, bytes) of each part; part numbers begin with 1.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self.ranges = list(ranges(size))
        self._crcs: dict[int, int] = {}

    def of(self, number: int) -> int:
        """Return the checksum of a part. Errors as `sum_range`."""
        if number not in self._crcs:
            self._crcs[number] = sum_range(self.path, *self.ranges[number - 1])
        return self._crcs[number]

    def all(self) -> Checksums:
        """Return the checksums. All parts must have been read."""
        return Checksums.of(self.size, tuple(crc for _, crc in sorted(self._crcs.items())))


def whole_file(path: Path, *, size: int) -> Part:
    """Return a file as one part with its checksum. A file of at most 1 MiB is read once and held in memory.

    Raises:
        FileChangedError: it does not exist, or its size is not `size`.
    """
    if size > MIB:
        return Part(path, 0, size, checksum_file(path, size=size).whole)
    with reading(path), path.open("rb", buffering=0) as file:
        content = file.read(size + 1)
        while content and len(content) < size and (more := file.read(size + 1 - len(content))):
            content += more
    if len(content) != size:
        raise FileChangedError(f"{path} has {len(content):,} bytes or more, and had {size:,} a moment ago")
    return Part(content, 0, size, crc64nvme(content), read=True)


def sum_range(path: Path, offset: int, length: int) -> int:
    """Return the CRC64NVME of a range of a file.

    Raises:
        FileChangedError: the file does not exist, or ends inside the range.
    """
    with reading(path), path.open("rb", buffering=0) as file:
        file.seek(offset)
        return _sum_range(file.readinto, memoryview(bytearray(min(MIB, length))), length, path)


def _sum_range(readinto: Callable[[memoryview], int | None], buffer: memoryview, length: int, path: Path) -> int:
    crc = 0
    while length:
        got = readinto(buffer[:length])
        if not got:
            raise FileChangedError(f"{path} became shorter while it was read")
        crc = crc64nvme(buffer[:got], crc)
        length -= got
    return crc
