"""Compressed streams that mark their end and have a checksum: gzip, zlib, bzip2, xz; and the frames of zstd."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Protocol

from holdfast.probes.verdict import CutError, Finding, UnclearError, sized, unknown, whole
from holdfast.probes.view import Cursor, View

GZIP, BZIP2, XZ, ZSTD = b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"
LZMA = b"\x5d\0\0"
ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_CHUNK = 1 << 20
_BLOCKS = 4_000_000


class _Unpacker(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def unpack(self, data: bytes) -> tuple[int, bytes]: ...


class _Zlib:
    """zlib's unpacker, with a limited output for each call."""

    def __init__(self, bits: int) -> None:
        self._unpacker = zlib.decompressobj(bits)

    @property
    def eof(self) -> bool:
        return self._unpacker.eof

    @property
    def unused_data(self) -> bytes:
        return self._unpacker.unused_data

    def unpack(self, data: bytes) -> tuple[int, bytes]:
        """Return how many bytes were unpacked, and the input that is left."""
        return len(self._unpacker.decompress(data, _CHUNK)), self._unpacker.unconsumed_tail


class _Buffering:
    """bzip2's and xz's unpackers, which keep the input that is left."""

    def __init__(self, unpacker: bz2.BZ2Decompressor | lzma.LZMADecompressor) -> None:
        self._unpacker = unpacker

    @property
    def eof(self) -> bool:
        return self._unpacker.eof

    @property
    def unused_data(self) -> bytes:
        return self._unpacker.unused_data

    def unpack(self, data: bytes) -> tuple[int, bytes]:
        """Return how many bytes were unpacked, and no input."""
        out = len(self._unpacker.decompress(data, _CHUNK))
        while not self._unpacker.needs_input and not self._unpacker.eof:
            out += len(self._unpacker.decompress(b"", _CHUNK))
        return out, b""


_UNPACKERS: dict[bytes, tuple[str, Callable[[], _Unpacker]]] = {
    GZIP: ("gzip file", lambda: _Zlib(zlib.MAX_WBITS | 16)),
    BZIP2: ("bzip2 file", lambda: _Buffering(bz2.BZ2Decompressor())),
    LZMA: ("lzma file", lambda: _Buffering(lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=1 << 28))),
    XZ: ("xz file", lambda: _Buffering(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=1 << 28))),
    **{magic: ("zlib stream", lambda: _Zlib(zlib.MAX_WBITS)) for magic in ZLIB},
}


def check(view: View, magic: bytes) -> Finding:
    """Probe a compressed file by unpacking it, within the budget."""
    what, make = _UNPACKERS[magic]
    unpacker, out, fed = make(), 0, 0
    try:
        for chunk in view.chunks(0, view.size):
            waiting = chunk
            fed += len(chunk)
            while waiting:
                if unpacker.eof:
                    if not waiting.startswith(magic[: len(waiting)]):
                        raise UnclearError(f"{what} with something after its end")
                    unpacker = make()
                unpacked, unread = unpacker.unpack(waiting)
                waiting = unpacker.unused_data if unpacker.eof else unread
                out += unpacked
                if max(out, fed) > view.budget:
                    raise UnclearError(f"{what} that was not unpacked to its end")
    except (zlib.error, OSError, EOFError, lzma.LZMAError, ValueError) as error:
        raise UnclearError(f"{what} that cannot be unpacked: {error}") from None
    if not unpacker.eof:
        raise CutError(f"{what} without its end, cut at {view.size:,} bytes")
    if magic == LZMA:
        return unknown("lzma file with its end; the format has no checksum")
    return whole(f"{what} whose checksum holds up to its last byte")


def check_zstd(view: View) -> Finding:
    """Probe zstd frames by their block headers, without unpacking. Format: RFC 8878, 3.1."""
    cursor, blocks = Cursor(view, window=16), 0
    try:
        while view.at(cursor.position, 4) == ZSTD:
            checksum = _skip_zstd_header(cursor)
            last = False
            while not last:
                header = int.from_bytes(cursor.take(3), "little")
                last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
                if kind == 3:
                    raise UnclearError("no zstd: a block is of no kind")
                cursor.skip(1 if kind == 1 else size)
                blocks += 1
                if blocks > _BLOCKS:
                    raise UnclearError("zstd file of more blocks than may be looked at")
            cursor.skip(4 if checksum else 0)
    except CutError as error:
        raise CutError(f"zstd file that {error}") from None
    return sized("zstd file", has=view.size, needs=cursor.position)


def _skip_zstd_header(cursor: Cursor) -> bool:
    """Move behind a frame's header; return whether a checksum follows its blocks."""
    cursor.skip(4)
    flags = cursor.take(1)[0]
    single = bool(flags & 0x20)
    content_size = {0: 1 if single else 0, 1: 2, 2: 4, 3: 8}[flags >> 6]
    cursor.skip((0 if single else 1) + (0, 1, 2, 4)[flags & 3] + content_size)
    return bool(flags & 4)
