"""NumPy's .npy: a header that gives type and shape, then the array.

Format: numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

from __future__ import annotations

import ast

from holdfast.probes import dtype
from holdfast.probes.pickles import pickled
from holdfast.probes.verdict import Finding, UnclearError, sized
from holdfast.probes.view import Cursor, View

MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 1 << 16
_MOST_ARRAYS = 10_000


def check(view: View) -> Finding:
    """Probe a file of one or several arrays that begins with NumPy's magic."""
    end = 0
    for _ in range(_MOST_ARRAYS):
        cursor = Cursor(view, end, window=256)
        item, count = _header(cursor)
        if item is None:
            return pickled.check(view, cursor.position, named=True)
        end = cursor.position + item * count
        if view.at(end, len(MAGIC)) != MAGIC:
            return sized("npy array", has=view.size, needs=end)
    raise UnclearError("npy file with more arrays than may be looked at")


def _header(cursor: Cursor) -> tuple[int | None, int]:
    """Return the bytes of an element (None for Python objects) and the number of elements."""
    cursor.skip(len(MAGIC))
    version = cursor.take(2)[0]
    length = cursor.number("<H" if version == 1 else "<I")
    if version not in (1, 2, 3) or length > _LONGEST_HEADER:
        raise UnclearError("npy array of a version that is not known")
    text = cursor.take(length).decode("latin-1" if version < 3 else "utf-8", "replace")
    if "\\" in text:
        raise UnclearError("npy array whose header has escapes")  # reading them may print a warning
    try:
        header = ast.literal_eval(text.strip())
        description, shape = header["descr"], header["shape"]
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError, KeyError):
        raise UnclearError("npy array whose header is none") from None
    return dtype.item_size(description), dtype.count(shape)
