"""Read the bytes of a part for a store, and compare them with their checksum."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from holdfast.checksum import crc64nvme
from holdfast.errors import FileChangedError
from holdfast.store import Part
from holdfast.store.os_errors import os_errors, reading

BLOCK = 1 << 20
"""Bytes yielded at a time."""


def blocks(part: Part, allow: Callable[[int], int] = lambda wanted: wanted) -> Iterator[memoryview]:
    """Yield the bytes of a part, at most `BLOCK` at a time; a block is only valid until the next one.

    For bytes of a file, `allow` returns how many may be sent next, possibly after a wait. Records are not limited.

    The checksum of a file is compared before the last block is yielded, so a server that waits for all announced bytes
    never gets a whole body with another checksum. Bytes in memory cannot change.

    Raises:
        FileChangedError: the file is gone, is shorter, or has another checksum.
    """
    if isinstance(part.source, bytes):
        yield from _from_memory(part.source, part, allow if part.read else lambda wanted: wanted)
        return
    crc, left = 0, part.size
    for block in _from_file(part.source, part, allow):
        crc = crc64nvme(block, crc)
        left -= len(block)
        if left == 0 and crc != part.crc64nvme:
            raise FileChangedError(f"{part.source} changed while it was being stored")
        yield block
    if left:
        raise FileChangedError(f"{part.source} became shorter while it was being stored")


def write_part(part: Part, descriptor: int, path: Path, offset: int) -> None:
    """Write the bytes of a part to an open file, from `offset` on; `path` is for the messages. Errors as `blocks`."""
    for block in blocks(part):
        rest = block
        with os_errors(path, "write"):
            while rest:
                written = os.pwrite(descriptor, rest, offset)
                offset += written
                rest = rest[written:]


def _from_memory(source: bytes, part: Part, allow: Callable[[int], int]) -> Iterator[memoryview]:
    view = memoryview(source)[part.offset : part.offset + part.size]
    while view:
        size = allow(min(BLOCK, len(view)))
        yield view[:size]
        view = view[size:]


def _from_file(path: Path, part: Part, allow: Callable[[int], int]) -> Iterator[memoryview]:
    with reading(path):
        descriptor = os.open(path, os.O_RDONLY)
    try:
        yield from range_blocks(descriptor, path, part.offset, part.size, allow)
    finally:
        os.close(descriptor)


def range_blocks(
    descriptor: int, path: Path, offset: int, size: int, allow: Callable[[int], int] = lambda wanted: wanted
) -> Iterator[memoryview]:
    """Yield a range of an open file, up to its end; blocks and `allow` are as in `blocks`."""
    view = memoryview(bytearray(min(BLOCK, size)))
    end = offset + size
    while offset < end:
        wanted = allow(min(len(view), end - offset))
        with os_errors(path, "read"):
            length = os.preadv(descriptor, [view[:wanted]], offset)
        if length == 0:
            return
        offset += length
        yield view[:length]
