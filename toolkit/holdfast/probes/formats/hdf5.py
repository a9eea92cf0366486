"""HDF5, so Keras's .h5 and .weights.h5: the superblock has the address at which the file ends.

The library refuses a shorter file. Format: support.hdfgroup.org, "HDF5 File Format Specification", II.A. A file of the
right length may lack what its writer had in memory, so none is called whole.
"""

from __future__ import annotations

import struct

from holdfast.probes.verdict import CutError, Finding, UnclearError, sized
from holdfast.probes.view import Cursor, View

MAGIC = b"\x89HDF\r\n\x1a\n"
_SIZES = {2: "<H", 4: "<I", 8: "<Q"}
_SPREAD = (b"NCSA", b"Subfilin")  # drivers that spread one file over several


def check(view: View) -> Finding:
    """Probe a file that begins with HDF5's signature."""
    cursor = Cursor(view, len(MAGIC), window=256)
    version = cursor.take(1)[0]
    if version in (0, 1):
        base, end, spread, root = _early(cursor, version)
    elif version in (2, 3):
        base, end, spread, root = _late(cursor)
    else:
        raise UnclearError("HDF5 of a version that is not known")
    if spread:
        raise UnclearError("HDF5 that is spread over several files")
    if view.size < base + end:
        raise CutError(f"HDF5 file of {view.size:,} bytes whose superblock announces {base + end:,}")
    # A version 1 header begins with its version, a later one with a signature.
    if view.at(base + root, 1) != b"\x01" and view.at(base + root, 4) != b"OHDR":
        raise CutError("HDF5 file whose root group has not been written")
    return sized("HDF5 file", has=view.size, needs=base + end)


def _early(cursor: Cursor, version: int) -> tuple[int, int, bool, int]:
    cursor.skip(4)
    size = cursor.take(1)[0]
    layout, undefined = _address(size)
    cursor.skip(10 if version == 0 else 14)
    base, _, end, driver = (cursor.number(layout) for _ in range(4))
    cursor.skip(size)
    return base, end, driver != undefined, cursor.number(layout)


def _late(cursor: Cursor) -> tuple[int, int, bool, int]:
    layout, undefined = _address(cursor.take(1)[0])
    cursor.skip(2)
    base, extension, end, root = (cursor.number(layout) for _ in range(4))
    cursor.skip(4)
    message = cursor.view.at(base + extension, 1024) if extension != undefined else b""
    return base, end, any(driver in message for driver in _SPREAD), root


def _address(size: int) -> tuple[str, int]:
    if size not in _SIZES:
        raise UnclearError("HDF5 with addresses of an odd size")
    return _SIZES[size], (1 << 8 * struct.calcsize(_SIZES[size])) - 1
