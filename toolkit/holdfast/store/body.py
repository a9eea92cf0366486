"""The bytes of a part on their way to a store, checked while they pass."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from holdfast.checksum import crc64nvme
from holdfast.errors import FileChangedError
from holdfast.store import Part
from holdfast.store.os_errors import os_errors, reading

PIECE = 1 << 20
"""Bytes handed on at a time."""


def pieces(part: Part, allow: Callable[[int], int] = lambda wanted: wanted) -> Iterator[memoryview]:
    """Yield the bytes of a part, at most `PIECE` at a time; a piece is only valid until the next one.

    Records are small and go at once; before bytes of a file go, `allow` says how many of them may.

    The checksum of a file is compared before the last piece is handed on, so a receiver that waits for all announced
    bytes never gets a whole body whose content is not what the checksum says. Bytes in memory cannot change.

    Raises:
        FileChangedError: the file is gone, shorter, or holds other bytes than those that were summed up.
        StoreError: the file cannot be read.
    """
    if isinstance(part.source, bytes):
        yield from _from_memory(part.source, part, allow if part.read else lambda wanted: wanted)
        return
    what = str(part.source)
    crc, left = 0, part.size
    for piece in _from_file(part.source, part, allow):
        crc = crc64nvme(piece, crc)
        left -= len(piece)
        if left == 0 and crc != part.crc64nvme:
            raise FileChangedError(f"{what} changed while it was being stored")
        yield piece
    if left:
        raise FileChangedError(f"{what} became shorter while it was being stored")


def write_part(part: Part, descriptor: int, path: Path, offset: int) -> None:
    """Write the bytes of a part to an open file, from `offset` on; `path` is for the messages.

    Raises:
        FileChangedError: as `pieces`.
        StoreError: the part cannot be read, or the file not be written.
    """
    for piece in pieces(part):
        rest = piece
        with os_errors(path, "write"):
            while rest:
                written = os.pwrite(descriptor, rest, offset)
                offset += written
                rest = rest[written:]


def _from_memory(source: bytes, part: Part, allow: Callable[[int], int]) -> Iterator[memoryview]:
    view = memoryview(source)[part.offset : part.offset + part.size]
    while view:
        size = allow(min(PIECE, len(view)))
        yield view[:size]
        view = view[size:]


def _from_file(path: Path, part: Part, allow: Callable[[int], int]) -> Iterator[memoryview]:
    with reading(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        view = memoryview(bytearray(min(PIECE, part.size)))
        position, end = part.offset, part.offset + part.size
        while position < end:
            wanted = allow(min(len(view), end - position))
            with os_errors(path, "read"):
                got = os.preadv(descriptor, [view[:wanted]], position)
            if got == 0:
                return
            position += got
            yield view[:got]
    finally:
        os.close(descriptor)
