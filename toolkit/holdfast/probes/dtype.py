"""Size of the elements of a NumPy array, from NumPy's description of their type."""

from __future__ import annotations

import re
from math import prod

from holdfast.probes.verdict import UnclearError

_TYPE = re.compile(r"[<>|=]?([?a-zA-Z])(\d*)(?:\[[^\]]*\])?")
_FIXED = {"?": 1, "b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "l": 8, "L": 8, "q": 8, "Q": 8,
          "e": 2, "f": 4, "d": 8, "g": 16, "F": 8, "D": 16, "G": 32, "M": 8, "m": 8}  # fmt: skip


def item_size(description: object) -> int | None:
    """Return the bytes of one element of a type; None where elements are Python objects.

    Args:
        description: a type string, or a list of fields: name, type and, for arrays in a field, shape.
    """
    if isinstance(description, list):
        return _record_size(description)
    found = _TYPE.fullmatch(description) if isinstance(description, str) else None
    kind, digits = found.groups() if found else ("", "")
    if kind == "O":
        return None
    if kind and 0 < len(digits) <= 9:
        return int(digits) * (4 if kind == "U" else 1)
    if digits or kind not in _FIXED:
        raise UnclearError("array of a type that is not known")
    return _FIXED[kind]


def _record_size(fields: list[object]) -> int | None:
    total = 0
    for field in fields:
        if not isinstance(field, tuple) or len(field) not in (2, 3):
            raise UnclearError("array of a type that is not known")
        size = item_size(field[1])
        if size is None:
            return None
        shape = field[2] if len(field) == 3 else ()
        total += size * count(shape if isinstance(shape, tuple) else (shape,))
    return total


def count(shape: object) -> int:
    """Return the number of elements of an array with this shape."""
    if not isinstance(shape, tuple) or not all(type(length) is int and length >= 0 for length in shape):
        raise UnclearError("array whose shape is none")
    return prod(shape)
