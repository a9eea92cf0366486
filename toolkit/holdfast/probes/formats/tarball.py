"""tar archives: a header before each member gives its length. What follows the last one is left to the writer."""

from __future__ import annotations

import re

from holdfast.probes.verdict import CutError, Finding, UnclearError, unknown
from holdfast.probes.view import View

MAGIC, MAGIC_AT = b"ustar", 257
_BLOCK = 512
_MEMBERS = 1_000_000
_PAX_SIZE = re.compile(rb"(?:^|\n)\d+ size=(\d+)\n")


def check(view: View) -> Finding:
    """Judge a tar archive.

    Raises:
        CutError: it ends within a member.
        UnclearError: it is no tar archive, or of a kind that is not known.
    """
    at = 0
    size_to_come: int | None = None
    announced = False  # a header of its own has given the next member a long name, or a size
    for _ in range(_MEMBERS):
        header = view.at(at, _BLOCK)
        if not header.strip(b"\0"):
            if announced:
                raise CutError(f"tar archive cut before a member that is announced, at {view.size:,} bytes")
            return unknown("tar archive with all its members; nothing in it vouches for their content")
        if len(header) < _BLOCK:
            raise CutError(f"tar archive cut within a header, at {view.size:,} bytes")
        if sum(header) - sum(header[148:156]) + 8 * 32 != _number(header[148:156]):
            raise UnclearError("tar archive with a header whose checksum does not hold")
        kind = header[156:157]
        announced = kind in (b"x", b"L", b"K")
        if kind == b"S":
            raise UnclearError("tar archive with a sparse member")
        # Links, devices, directories and pipes have no content, whatever their size says.
        size = 0 if kind in b"123456" and kind else _number(header[124:136])
        if size_to_come is not None and kind in (b"0", b"\0", b"7"):
            size, size_to_come = size_to_come, None
        if kind == b"x":
            found = _PAX_SIZE.search(view.at(at + _BLOCK, min(size, 1 << 16)))
            size_to_come = int(found[1]) if found and len(found[1]) < 20 else None
        end = at + _BLOCK + size
        if end > view.size:
            raise CutError(f"tar archive of {view.size:,} bytes with a member that ends at {end:,}")
        at += _BLOCK + -(-size // _BLOCK) * _BLOCK
    raise UnclearError("tar archive of more members than may be looked at")


def _number(digits: bytes) -> int:
    if digits[:1] == b"\x80":
        return int.from_bytes(digits[1:], "big")
    try:
        return int(digits.strip(b" \0") or b"0", 8)
    except ValueError:
        raise UnclearError("tar archive with a number that is none") from None
