"""Zip archives: torch.save, TorchScript, NumPy's .npz, Keras's .keras.

The end record is written last: an archive without it is cut. One whose members agree with their directory and their
checksums is whole. Format: PKWARE's APPNOTE.TXT, 4.3.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from holdfast.probes.verdict import CutError, Finding, UnclearError, Verdict
from holdfast.probes.view import View

MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
_LOCAL, _END = MAGICS
_CENTRAL = b"PK\x01\x02"
_END_SIZE = 22
_LONGEST_COMMENT = 0xFFFF
_FULL_2, _FULL_4 = 0xFFFF, 0xFFFFFFFF
_DIRECTORY_LIMIT = 1 << 26
_ENCRYPTED, _DESCRIPTOR = 0x1, 0x8
_STORED, _DEFLATED = 0, 8


class _Directory(NamedTuple):
    entries: int
    size: int
    offset: int


class _Member(NamedTuple):
    name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    unpacked: int
    header: int


def check(view: View) -> Finding:
    """Probe a file that begins like a zip archive."""
    directory = _find_directory(view)
    members = sorted(_read_directory(view, directory), key=lambda member: member.header)
    ends = [*(member.header for member in members[1:]), directory.offset] if members else []
    if (members[0].header if members else directory.offset) != 0:
        raise UnclearError("zip archive with something before its first member")
    starts = [_check_header(view, member, end) for member, end in zip(members, ends, strict=True)]
    content = sum(max(member.packed, member.unpacked) for member in members)
    if content > view.budget:
        raise UnclearError(f"zip archive with its end record; its {content:,} bytes were not all read")
    for member, start in zip(members, starts, strict=True):
        _check_content(view, member, start)
    return Finding(
        Verdict.WHOLE, f"zip archive with its end record; the checksums of all its {len(members)} members hold"
    )


def _find_directory(view: View) -> _Directory:
    """Return the directory that the end record names: the one that ends where the file ends."""
    tail_size = min(view.size, _END_SIZE + _LONGEST_COMMENT)
    tail = view.at(view.size - tail_size, tail_size)
    followed = False
    at = len(tail)
    while (at := tail.rfind(_END, 0, at)) >= 0:
        record = tail[at : at + _END_SIZE]
        if len(record) < _END_SIZE:
            continue
        position = view.size - tail_size + at
        end = position + _END_SIZE + struct.unpack_from("<H", record, 20)[0]
        directory, directory_end = _read_end(view, record, position)
        agrees = directory.offset + directory.size == directory_end
        if end == view.size:
            if not agrees:
                raise UnclearError("zip archive whose end record names no directory before it")
            return directory
        followed = followed or (agrees and end < view.size)
    if followed:
        raise UnclearError("zip archive with something after its end record")
    raise CutError(f"zip archive without its end record, cut at {view.size:,} bytes")


def _read_end(view: View, record: bytes, position: int) -> tuple[_Directory, int]:
    """Return the directory that an end record names, and where it must end.

    Large archives have a second end record before it. Where the two disagree, the result fits no archive.
    """
    short = _Directory(*struct.unpack_from("<HII", record, 10))
    locator = view.at(position - 20, 20) if position >= 20 else b""
    if locator[:4] == b"PK\x06\x07":
        large_at = int.from_bytes(locator[8:16], "little")
        large = view.at(large_at, 56)
        if len(large) == 56 and large[:4] == b"PK\x06\x06":
            full = _Directory(*struct.unpack_from("<QQQ", large, 32))
            agree = all(
                small in (number, limit)
                for number, small, limit in zip(full, short, (_FULL_2, _FULL_4, _FULL_4), strict=True)
            )
            return (full, large_at) if agree else (_Directory(0, 0, 0), position)
    return short, position


def _read_directory(view: View, directory: _Directory) -> Iterator[_Member]:
    if directory.size > _DIRECTORY_LIMIT:
        raise UnclearError(f"zip archive with a directory of {directory.size:,} bytes")
    content = view.at(directory.offset, directory.size)
    at = found = 0
    while at < len(content):
        if content[at : at + 4] != _CENTRAL or at + 46 > len(content):
            raise UnclearError("zip archive whose directory is not one")
        flags, method, crc, packed, unpacked = struct.unpack_from("<8xHH4xIII", content, at)
        name_size, extra_size, comment_size, header = struct.unpack_from("<HHH8xI", content, at + 28)
        name_end = at + 46 + name_size
        extra = content[name_end : name_end + extra_size]
        if _FULL_4 in (packed, unpacked, header):
            packed, unpacked, header = _large_sizes(extra, packed, unpacked, header)
        yield _Member(content[at + 46 : name_end], flags, method, crc, packed, unpacked, header)
        at = name_end + extra_size + comment_size
        found += 1
    if at != directory.size or found & _FULL_2 != directory.entries & _FULL_2:
        raise UnclearError(f"zip archive with {found} of {directory.entries} members in its directory")


def _large_sizes(extra: bytes, packed: int, unpacked: int, header: int) -> tuple[int, int, int]:
    """Return the sizes and the position of a member that do not fit into 32 bits."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            numbers = iter(value for (value,) in struct.iter_unpack("<Q", extra[at + 4 : at + 4 + size // 8 * 8]))
            sizes = (unpacked, packed, header)
            unpacked, packed, header = (next(numbers, size) if size == _FULL_4 else size for size in sizes)
            break
        at += 4 + size
    return packed, unpacked, header


def _check_header(view: View, member: _Member, end: int) -> int:
    """Compare a member's header and trailer with the directory; return where its content begins.

    In a file that was overwritten in part, the old directory contradicts the new headers.
    """
    header = view.at(member.header, 30 + len(member.name))
    if len(header) < 30 + len(member.name) or header[:4] != _LOCAL or header[30:] != member.name:
        raise UnclearError(f"zip archive whose directory names {member.name!r} where it is not")
    flags, method, crc, packed, unpacked, name_size, extra_size = struct.unpack_from("<6xHH4xIIIHH", header)
    if (flags, method, name_size) != (member.flags, member.method, len(member.name)) or flags & _ENCRYPTED:
        raise UnclearError(f"zip archive whose member {member.name!r} is not as its directory says")
    start = member.header + 30 + name_size + extra_size
    after = view.at(start + member.packed, min(25, max(0, end - start - member.packed)))
    if flags & _DESCRIPTOR:
        at = 4 if after[:4] == b"PK\x07\x08" else 0
        if len(after) - at not in (12, 20) or int.from_bytes(after[at : at + 4], "little") != member.crc:
            raise UnclearError(f"zip archive whose member {member.name!r} is followed by another's checksum")
    elif (
        after
        or crc != member.crc
        or packed not in (member.packed, _FULL_4)
        or unpacked not in (member.unpacked, _FULL_4)
    ):
        raise UnclearError(f"zip archive whose member {member.name!r} is not as its directory says")
    if start + member.packed + len(after) != end:
        raise UnclearError(f"zip archive whose member {member.name!r} does not end where the next begins")
    return int(start)


def _check_content(view: View, member: _Member, start: int) -> None:
    """Compare a member's content with its checksum."""
    crc, unpacked = 0, 0
    try:
        for chunk in _unpack(view, member, start):
            crc = zlib.crc32(chunk, crc)
            unpacked += len(chunk)
            if unpacked > member.unpacked:
                break
    except zlib.error as error:
        raise UnclearError(f"zip archive whose member {member.name!r} cannot be unpacked: {error}") from None
    if (crc, unpacked) != (member.crc, member.unpacked):
        raise UnclearError(f"zip archive whose member {member.name!r} is not what its checksum says")


def _unpack(view: View, member: _Member, start: int) -> Iterator[bytes]:
    if member.method == _STORED:
        yield from view.chunks(start, member.packed)
        return
    if member.method != _DEFLATED:
        raise UnclearError(f"zip archive whose member {member.name!r} is packed in way {member.method}")
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    for chunk in view.chunks(start, member.packed):
        waiting = chunk
        while waiting and not unpacker.eof:
            yield unpacker.decompress(waiting, 1 << 20)
            waiting = unpacker.unconsumed_tail
