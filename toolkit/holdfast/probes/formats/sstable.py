"""TensorFlow's checkpoint index (`<name>.index`): a sorted table with the data file and range of each tensor.

A footer ends it. Format: tensorflow/core/lib/io/format.h and table_format.txt, protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from holdfast.probes.crc32c import crc32c
from holdfast.probes.verdict import CutError, Finding, UnclearError, unknown, whole
from holdfast.probes.view import View

SUFFIX = ".index"
# The first key is empty. Its value is the header: number of data files, version of the writer.
HEAD = re.compile(rb"\x00\x00.\x08[\x01-\xff][\x00-\xff]{0,4}?\x1a", re.DOTALL)
_FOOTER, _MAGIC = 48, struct.pack("<Q", 0xDB4775248B80FB57)
_LARGEST = 1 << 24
_CHECKED = 1 << 22
_TRAILER = 5  # after each block: its compression and its checksum
_MASK = 0xA282EAD8


def check(view: View) -> Finding:
    """Probe a file that begins like an index."""
    for _ in _entries(view):
        pass
    if view.size > _CHECKED:
        return unknown("TensorFlow index with its footer, too large to check")
    return whole("TensorFlow index with its footer, and the checksums of its blocks hold")


def shard_sizes(view: View) -> list[int]:
    """Return the least size of each data file, in bytes.

    Raises:
        CutError: the index is cut.
        UnclearError: it cannot be read.
    """
    sizes: list[int] = []
    for key, value in _entries(view):
        fields = _fields(value)
        if not key:
            shards = fields.get(1, 0)
            if not 0 < shards < 100_000:
                raise UnclearError("TensorFlow index of no data files")
            sizes = [0] * shards
            continue
        shard = fields.get(3, 0)
        if shard >= len(sizes):
            raise UnclearError("TensorFlow index that names a data file beyond its last")
        sizes[shard] = max(sizes[shard], fields.get(4, 0) + fields.get(5, 0))
    return sizes


def _entries(view: View) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of all blocks, in order."""
    if view.at(max(0, view.size - 8), 8) != _MAGIC or view.size < _FOOTER:
        raise CutError(f"TensorFlow index without its footer, cut at {view.size:,} bytes")
    if view.size > _LARGEST:
        raise UnclearError("TensorFlow index of many megabytes")
    footer = view.at(view.size - _FOOTER, _FOOTER)
    at = _varint(footer, _varint(footer, 0)[1])[1]
    offset, at = _varint(footer, at)
    length, _ = _varint(footer, at)
    for _, handle in _block(view, offset, length):
        block_at, at = _varint(handle, 0)
        block_length, _ = _varint(handle, at)
        yield from _block(view, block_at, block_length)


def _block(view: View, offset: int, length: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of one block. The file omits what a key shares with the one before it."""
    content = view.at(offset, length + _TRAILER)
    if len(content) != length + _TRAILER or content[length] != 0 or length < 4:
        raise UnclearError("TensorFlow index with a block that cannot be read")
    if view.size <= _CHECKED:
        crc = crc32c(content[: length + 1])
        masked = ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF
        if masked != int.from_bytes(content[length + 1 :], "little"):
            raise UnclearError("TensorFlow index with a block whose checksum does not hold")
    end = length - 4 - 4 * int.from_bytes(content[length - 4 : length], "little")
    key, at = b"", 0
    while at < end:
        shared, at = _varint(content, at)
        own, at = _varint(content, at)
        size, at = _varint(content, at)
        key = key[:shared] + content[at : at + own]
        at += own + size
        if at > end:
            raise UnclearError("TensorFlow index with an entry that is longer than its block")
        yield key, content[at - size : at]


def _fields(message: bytes) -> dict[int, int]:
    """Return the integers of a protobuf message, by field number."""
    fields, at = {}, 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            fields[tag >> 3], at = _varint(message, at)
        elif kind == 2:
            size, at = _varint(message, at)
            at += size
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise UnclearError("TensorFlow index with an entry that is none")
    return fields


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """Return the number at a position, seven bits a byte, and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            break
        value |= (content[at] & 0x7F) << shift
        at += 1
        if not content[at - 1] & 0x80:
            return value, at
    raise UnclearError("TensorFlow index with a number that does not end")
