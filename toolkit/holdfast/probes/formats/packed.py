"""Compressed streams that mark their end and have a checksum: gzip, zlib, bzip2, xz; and the frames of zstd."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

from holdfast.probes.verdict import CutError, Finding, UnclearError, Verdict
from holdfast.probes.view import Cursor, View, walk

GZIP, BZIP2, XZ, ZSTD = b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"
LZMA = b"\x5d\0\0"
ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_CHUNK = 1 << 20
_BLOCKS = 4_000_000


_UNPACKERS: dict[bytes, tuple[str, Callable[[], Any]]] = {
    GZIP: ("gzip file", lambda: zlib.decompressobj(zlib.MAX_WBITS | 16)),
    BZIP2: ("bzip2 file", bz2.BZ2Decompressor),
    LZMA: ("lzma file", lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=1 << 28)),
    XZ: ("xz file", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=1 << 28)),
    **dict.fromkeys(ZLIB, ("zlib stream", zlib.decompressobj)),
}


def check(view: View, magic: bytes) -> Finding:
    """Probe a compressed file by unpacking it, within the budget."""
    what, make = _UNPACKERS[magic]
    unpacker, out, fed = make(), 0, 0
    try:
        for chunk in view.chunks(0, view.size):
            waiting = chunk
            fed += len(chunk)
            # bzip2's and xz's unpackers keep the input that is left themselves; zlib's returns it.
            while waiting or not (unpacker.eof or getattr(unpacker, "needs_input", True)):
                if unpacker.eof:
                    if not waiting.startswith(magic[: len(waiting)]):
                        raise UnclearError(f"{what} with something after its end")
                    unpacker = make()
                out += len(unpacker.decompress(waiting, _CHUNK))
                waiting = unpacker.unused_data if unpacker.eof else getattr(unpacker, "unconsumed_tail", b"")
                if max(out, fed) > view.budget:
                    raise UnclearError(f"{what} that was not unpacked to its end")
    except (zlib.error, OSError, EOFError, lzma.LZMAError, ValueError) as error:
        raise UnclearError(f"{what} that cannot be unpacked: {error}") from None
    if not unpacker.eof:
        raise CutError(f"{what} without its end, cut at {view.size:,} bytes")
    if magic == LZMA:
        raise UnclearError("lzma file with its end; the format has no checksum")
    return Finding(Verdict.WHOLE, f"{what} whose checksum holds up to its last byte")


def check_zstd(view: View) -> Finding:
    """Probe zstd frames by their block headers, without unpacking. Format: RFC 8878, 3.1."""
    return walk("zstd file", Cursor(view, window=16), _skip_zstd)


def _skip_zstd(cursor: Cursor) -> None:
    blocks = 0
    while cursor.view.at(cursor.position, 4) == ZSTD:
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


def _skip_zstd_header(cursor: Cursor) -> bool:
    """Move behind a frame's header; return whether a checksum follows its blocks."""
    cursor.skip(4)
    flags = cursor.take(1)[0]
    single = bool(flags & 0x20)
    content_size = {0: 1 if single else 0, 1: 2, 2: 4, 3: 8}[flags >> 6]
    cursor.skip((0 if single else 1) + (0, 1, 2, 4)[flags & 3] + content_size)
    return bool(flags & 4)
