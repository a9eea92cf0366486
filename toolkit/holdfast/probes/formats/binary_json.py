"""UBJSON (XGBoost's .ubj) and MessagePack (Flax's .msgpack): every value announces its type and its length.

Formats: ubjson.org, "Type Reference"; github.com/msgpack/msgpack, spec.md.
"""

from __future__ import annotations

from holdfast.probes.verdict import Finding, UnclearError
from holdfast.probes.view import Cursor, View, walk

UBJSON_SUFFIX, MESSAGEPACK_SUFFIX = ".ubj", ".msgpack"
_STEPS = 5_000_000
_INTEGERS = {b"i": ">b", b"U": ">B", b"I": ">h", b"u": ">H", b"l": ">i", b"m": ">I", b"L": ">q", b"M": ">Q"}
_PLAIN = {b"Z": 0, b"N": 0, b"T": 0, b"F": 0, b"C": 1, b"h": 2, b"d": 4, b"D": 8,
          b"i": 1, b"U": 1, b"I": 2, b"u": 2, b"l": 4, b"m": 4, b"L": 8, b"M": 8}  # fmt: skip
_ENDLESS = -1


def looks_like_xgboost(head: bytes) -> bool:
    """Say whether the first bytes are those of an XGBoost model: an object, and an 8-byte length of its first key."""
    return head[:8] == b"{L\0\0\0\0\0\0" and len(head) > 10 and head[10:11].isalpha()


def check_ubjson(view: View) -> Finding:
    """Probe a UBJSON file."""
    return walk("UBJSON", Cursor(view), _skip_ubjson)


def _skip_ubjson(cursor: Cursor) -> None:
    """Move behind one value. The stack has (closing mark, values left) of each container around the cursor."""
    open_ones: list[tuple[bytes, int]] = []
    kind = cursor.take(1)
    for _ in range(_STEPS):
        if kind in (b"{", b"["):
            open_ones.append((b"}" if kind == b"{" else b"]", _begin(cursor, kind)))
        elif kind in (b"S", b"H"):
            cursor.skip(_length(cursor))
        elif kind in _PLAIN:
            cursor.skip(_PLAIN[kind])
        else:
            raise UnclearError("no UBJSON: a type is not known")
        kind = _next(cursor, open_ones)
        if not kind:
            return
    raise UnclearError("UBJSON of more values than may be looked at")


def _begin(cursor: Cursor, kind: bytes) -> int:
    """Move behind the head of a container, and the values of a typed one; return how many values follow."""
    if _peek(cursor) not in (b"$", b"#"):
        return _ENDLESS
    one = cursor.take(1) if cursor.take(1) == b"$" else None
    if one and cursor.take(1) != b"#":
        raise UnclearError("no UBJSON: a type without a count")
    count = _length(cursor)
    if one is None:
        return count
    if kind != b"[" or one not in _PLAIN:
        raise UnclearError("UBJSON with a typed container that is not known")
    cursor.skip(_PLAIN[one] * count)
    return 0


def _next(cursor: Cursor, open_ones: list[tuple[bytes, int]]) -> bytes:
    """Return the type of the next value, after closing the containers that end here; none at the end."""
    while open_ones:
        closing, left = open_ones.pop()
        while left == _ENDLESS and _peek(cursor) == b"N":
            cursor.skip(1)
        if left == 0:
            continue
        if left == _ENDLESS and _peek(cursor) == closing:
            cursor.skip(1)
            continue
        open_ones.append((closing, left if left == _ENDLESS else left - 1))
        if closing == b"}":
            cursor.skip(_length(cursor))
        return cursor.take(1)
    return b""


def _length(cursor: Cursor) -> int:
    layout = _INTEGERS.get(cursor.take(1))
    length = cursor.number(layout) if layout else -1
    if length < 0:
        raise UnclearError("no UBJSON: a length is none")
    return length


def _peek(cursor: Cursor) -> bytes:
    kind = cursor.take(1)
    cursor.position -= 1
    return kind


def looks_like_messagepack(head: bytes) -> bool:
    """Say whether the first bytes are those of a map whose first key is text: other formats share the suffix."""
    kind = head[:1]
    key_at = 1 if b"\x80" <= kind <= b"\x8f" else {b"\xde": 3, b"\xdf": 5}.get(kind, 0)
    key = head[key_at : key_at + 1]
    return key_at > 0 and (not key or b"\xa0" <= key <= b"\xbf" or key in (b"\xd9", b"\xda", b"\xdb"))


def check_messagepack(view: View) -> Finding:
    """Probe a MessagePack file of one map."""
    return walk("MessagePack", Cursor(view), _skip_messagepack)


# Mark → bytes of the value that follow it.
_FIXED = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2,
          0xD2: 4, 0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}  # fmt: skip
# Mark → layout of the length, and bytes beside it.
_SIZED = {0xC4: (">B", 0), 0xC5: (">H", 0), 0xC6: (">I", 0), 0xC7: (">B", 1), 0xC8: (">H", 1), 0xC9: (">I", 1),
          0xD9: (">B", 0), 0xDA: (">H", 0), 0xDB: (">I", 0)}  # fmt: skip
# Mark → layout of the count, and values for each.
_COUNTED = {0xDC: (">H", 1), 0xDD: (">I", 1), 0xDE: (">H", 2), 0xDF: (">I", 2)}


def _skip_messagepack(cursor: Cursor) -> None:
    waiting = 1
    for _ in range(_STEPS):
        waiting += _skip_mark(cursor) - 1
        if not waiting:
            return
    raise UnclearError("MessagePack of more values than may be looked at")


def _skip_mark(cursor: Cursor) -> int:
    """Move behind one mark and its own bytes; return how many values it announces."""
    mark = cursor.take(1)[0]
    if mark < 0x80 or mark >= 0xE0:
        return 0
    if mark < 0xA0:
        return (mark & 0x0F) * (2 if mark < 0x90 else 1)
    if mark < 0xC0:
        cursor.skip(mark & 0x1F)
    elif mark in _FIXED:
        cursor.skip(_FIXED[mark])
    elif mark in _SIZED:
        layout, beside = _SIZED[mark]
        cursor.skip(cursor.number(layout) + beside)
    elif mark in _COUNTED:
        layout, each = _COUNTED[mark]
        return cursor.number(layout) * each
    else:
        raise UnclearError("no MessagePack: a mark is not known")
    return 0
