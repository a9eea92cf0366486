"""TensorFlow's checkpoint index (`<name>.index`): a sorted table with the data file and range of each tensor.

A footer ends it. Format: tensorflow/core/lib/io/format.h and table_format.txt, protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from holdfast.checksum import crc32c
from holdfast.probes.verdict import CutError, Finding, UnclearError, Verdict
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
        raise UnclearError("TensorFlow index with its footer, too large to check")
    return Finding(Verdict.WHOLE, "TensorFlow index with its footer, and the checksums of its blocks hold")


def shard_sizes(view: View) -> dict[str, int]:
    """Return the least size of each data file, in bytes, by its last name."""
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
    stem = view.name.removesuffix(SUFFIX)
    return {f"{stem}.data-{shard:05}-of-{len(sizes):05}": size for shard, size in enumerate(sizes)}


def _entries(view: View) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of all blocks, in order."""
    if view.at(max(0, view.size - 8), 8) != _MAGIC or view.size < _FOOTER:
        raise CutError(f"TensorFlow index without its footer, cut at {view.size:,} bytes")
    if view.size > _LARGEST:
        raise UnclearError("TensorFlow index of many megabytes")
    footer = view.at(view.size - _FOOTER, _FOOTER)
    _, _, offset, length, _ = _varints(footer, 0, 4)
    for _, handle in _block(view, offset, length):
        block_at, block_length, _ = _varints(handle, 0, 2)
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
        shared, own, size, at = _varints(content, at, 3)
        key = key[:shared] + content[at : at + own]
        at += own + size
        if at > end:
            raise UnclearError("TensorFlow index with an entry that is longer than its block")
        yield key, content[at - size : at]


def _fields(message: bytes) -> dict[int, int]:
    """Return the integers of a protobuf message, by field number."""
    fields, at = {}, 0
    while at < len(message):
        tag, at = _varints(message, at, 1)
        kind = tag & 7
        if kind == 0:
            fields[tag >> 3], at = _varints(message, at, 1)
        elif kind == 2:
            at = sum(_varints(message, at, 1))  # its size, and where it begins
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise UnclearError("TensorFlow index with an entry that is none")
    return fields


def _varints(content: bytes, at: int, count: int) -> list[int]:
    """Return the numbers from a position, seven bits a byte, and last the position behind them."""
    values: list[int] = []
    value = shift = 0
    while len(values) < count:
        if at >= len(content) or shift >= 70:
            raise UnclearError("TensorFlow index with a number that does not end")
        value |= (content[at] & 0x7F) << shift
        shift += 7
        if not content[at] & 0x80:
            values.append(value)
            value = shift = 0
        at += 1
    return [*values, at]
