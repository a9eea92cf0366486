"""Read parts of a file for a probe."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from holdfast.probes.verdict import CutError, Finding, UnclearError, sized

_CHUNK = 1 << 20
_LINE = 1 << 16


@dataclass(frozen=True, slots=True)
class View:
    """One file.

    Attributes:
        pread: returns at most so many bytes from an offset, as `os.pread` does.
        name: last name of the file.
        size: in bytes, when the file was opened.
        budget: bytes of content that may be read beside headers and directories.
    """

    pread: Callable[[int, int], bytes]
    name: str
    size: int
    budget: int

    def at(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`; fewer where the file ends."""
        blocks = []
        while length > 0 and 0 <= offset < self.size:
            block = self.pread(min(length, self.size - offset), offset)
            if not block:
                break
            blocks.append(block)
            offset += len(block)
            length -= len(block)
        return b"".join(blocks)

    def chunks(self, offset: int, length: int) -> Iterator[bytes]:
        """Yield a range in chunks of 1 MiB."""
        while length > 0:
            chunk = self.at(offset, min(_CHUNK, length))
            if not chunk:
                raise CutError(f"ends at {self.size:,} bytes and must go on for {length:,} more")
            yield chunk
            offset += len(chunk)
            length -= len(chunk)


class Cursor:
    """A position in a file that moves forward. Every method raises CutError where the file ends too early.

    Args:
        window: bytes that are read at a time (default 64 KiB); small where most of the file is skipped.
    """

    def __init__(self, view: View, position: int = 0, *, window: int = 1 << 16) -> None:
        self.view = view
        self.position = position
        self._window = window
        self._buffer = b""
        self._start = 0

    def take(self, length: int) -> bytes:
        """Return the next `length` bytes."""
        begin = self.position - self._start
        if begin < 0 or begin + length > len(self._buffer):
            self._refuse_end(length)
            self._buffer = self.view.at(self.position, max(length, self._window))
            self._start, begin = self.position, 0
            if len(self._buffer) < length:
                raise UnclearError("became shorter while it was read")
        self.position += length
        return self._buffer[begin : begin + length]

    def byte(self) -> int:
        """Return the next byte: as `take`, but faster, for pickles."""
        at = self.position - self._start
        if not 0 <= at < len(self._buffer):
            return self.take(1)[0]
        self.position += 1
        return self._buffer[at]

    def skip(self, length: int) -> None:
        """Move `length` bytes forward."""
        self._refuse_end(length)
        self.position += length

    def line(self) -> bytes:
        """Return the rest of the line, of at most 64 KiB, and move behind its line feed."""
        ahead = self.view.at(self.position, _LINE)
        end = ahead.find(b"\n")
        if end < 0 and len(ahead) == _LINE:
            raise UnclearError(f"has a line longer than {_LINE:,} bytes")
        if end < 0:
            raise CutError(f"ends within a line, at {self.view.size:,} bytes")
        self.position += end + 1
        return ahead[:end]

    def number(self, layout: str) -> int:
        """Return the next integer in a layout of `struct`."""
        return int(struct.unpack(layout, self.take(struct.calcsize(layout)))[0])

    def _refuse_end(self, length: int) -> None:
        if self.position + length > self.view.size:
            raise CutError(f"ends at {self.view.size:,} of at least {self.position + length:,} bytes")


def walk(what: str, cursor: Cursor, skip: Callable[[Cursor], object]) -> Finding:
    """Return the finding for a file of a format; `skip` moves the cursor behind all that the format announces."""
    try:
        skip(cursor)
    except CutError as error:
        raise CutError(f"{what} that {error}") from None
    return sized(what, has=cursor.view.size, needs=cursor.position)
