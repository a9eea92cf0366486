"""Iterate over the operations of a pickle. None is executed, and large values are skipped.

The table of operations is the standard library's (`pickletools.opcodes`).
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Iterator

from holdfast.probes.verdict import UnclearError
from holdfast.probes.view import Cursor

MAGIC = b"\x80"
_OPCODES = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
_FIXED = {"uint2": "<H", "int4": "<i", "uint4": "<I", "uint8": "<Q", "float8": ">d"}
_LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT4: "<i",
    pickletools.TAKEN_FROM_ARGUMENT4U: "<I",
    pickletools.TAKEN_FROM_ARGUMENT8U: "<Q",
}
_KEPT = 4096
STEPS = 5_000_000
"""Default limit of operations."""


Argument = int | float | bytes | tuple[bytes, bytes] | None


def operations(cursor: Cursor, steps: int = STEPS) -> Iterator[tuple[str, Argument]]:
    """Yield name and argument of each operation, including the one that ends the pickle.

    Strings are bytes, as in the file, and None where they have more than 4 KiB. The cursor is behind the yielded
    operation, and may be moved.
    """
    for _ in range(steps):
        opcode = _OPCODES.get(cursor.byte())
        if opcode is None:
            raise UnclearError("no pickle: an operation is not known")
        yield opcode.name, None if opcode.arg is None else _argument(cursor, opcode.arg)
        if opcode.name == "STOP":
            return
    raise UnclearError(f"a pickle of more than {steps:,} operations")


def _argument(cursor: Cursor, kind: pickletools.ArgumentDescriptor) -> Argument:
    if kind.name == "uint1":
        return cursor.byte()
    if kind.name in _FIXED:
        value = struct.unpack(_FIXED[kind.name], cursor.take(kind.n))[0]
        return value if isinstance(value, int | float) else None
    if kind.n == pickletools.UP_TO_NEWLINE:
        line = cursor.line()
        return (line, cursor.line()) if kind.name == "stringnl_noescape_pair" else line
    size = cursor.byte() if kind.n == pickletools.TAKEN_FROM_ARGUMENT1 else cursor.number(_LENGTHS[kind.n])
    if size < 0:
        raise UnclearError("no pickle: a length is negative")
    if size > _KEPT:
        cursor.skip(size)
        return None
    content = cursor.take(size)
    return int.from_bytes(content, "little", signed=True) if kind.name.startswith("long") else content
