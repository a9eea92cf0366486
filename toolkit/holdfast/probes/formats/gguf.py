"""GGUF: keys and values, a list of tensors, the tensors. Format: github.com/ggml-org/ggml, docs/gguf.md."""

from __future__ import annotations

from math import prod

from holdfast.probes.verdict import Finding, UnclearError, sized
from holdfast.probes.view import Cursor, View

MAGIC = b"GGUF"
_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY, _UINT32 = 8, 9, 4
_STEPS = 5_000_000
# Values per block and bytes per block, by ggml's type number.
BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18),
}  # fmt: skip


def check(view: View) -> Finding:
    """Judge a file that begins with GGUF's magic.

    Raises:
        CutError: it ends within its header.
        UnclearError: it is of a version or has a tensor type that is not known here.
    """
    cursor = Cursor(view, len(MAGIC))
    if cursor.number("<I") not in (2, 3):
        raise UnclearError("GGUF of a version that is not known")
    tensors, pairs = cursor.number("<Q"), cursor.number("<Q")
    if tensors + pairs > _STEPS:
        raise UnclearError("GGUF with more entries than may be looked at")
    alignment = 32
    for _ in range(pairs):
        key = cursor.take(_string_size(cursor))
        kind = cursor.number("<I")
        if key == b"general.alignment" and kind == _UINT32:
            alignment = cursor.number("<I")
        else:
            _skip_value(cursor, kind)
    end = 0
    for _ in range(tensors):
        cursor.skip(_string_size(cursor))
        dimensions = cursor.number("<I")
        if dimensions > 8:
            raise UnclearError("GGUF with a tensor of too many dimensions")
        values = prod(cursor.number("<Q") for _ in range(dimensions))
        block = BLOCKS.get(cursor.number("<I"))
        if block is None:
            raise UnclearError("GGUF with a tensor type that is not known")
        end = max(end, cursor.number("<Q") + -(-values // block[0]) * block[1])
    if not 1 <= alignment <= 1 << 20:
        raise UnclearError("GGUF with an alignment that is none")
    data = -(-cursor.position // alignment) * alignment
    needs = data + end if tensors else cursor.position
    # Whether the last tensor is filled up to the alignment too is left to the writer.
    if needs < view.size <= -(-needs // alignment) * alignment:
        needs = view.size
    return sized("GGUF file", has=view.size, needs=needs)


def _string_size(cursor: Cursor) -> int:
    size = cursor.number("<Q")
    if size > 1 << 24:
        raise UnclearError("GGUF with a string of many megabytes")
    return size


def _skip_value(cursor: Cursor, kind: int) -> None:
    if kind == _STRING:
        cursor.skip(_string_size(cursor))
    elif kind == _ARRAY:
        kind, count = cursor.number("<I"), cursor.number("<Q")
        if kind in _SCALARS:
            cursor.skip(_SCALARS[kind] * count)
        elif kind == _STRING and count <= _STEPS:
            for _ in range(count):
                cursor.skip(_string_size(cursor))
        else:
            raise UnclearError("GGUF with an array that is not known")
    elif kind in _SCALARS:
        cursor.skip(_SCALARS[kind])
    else:
        raise UnclearError("GGUF with a value type that is not known")
