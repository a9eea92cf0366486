"""Reading one file for a probe: where it is asked, and never more than is asked."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from holdfast.probes.verdict import CutError, UnclearError

_CHUNK = 1 << 20
_LINE = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One open file.

    Attributes:
        descriptor: open for reading.
        name: the file's last name, for what only a name can tell.
        size: bytes, when it was opened.
        budget: bytes of content, beside headers and directories, that may be read to come to a verdict.
        content: all of it, where it has been read already.
    """

    descriptor: int
    name: str
    size: int
    budget: int
    content: bytes | None = None

    def at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`; fewer where the file ends."""
        if self.content is not None:
            return self.content[offset : offset + max(0, length)] if offset >= 0 else b""
        pieces = []
        while length > 0 and 0 <= offset < self.size:
            piece = os.pread(self.descriptor, min(length, self.size - offset), offset)
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
        return b"".join(pieces)

    def chunks(self, offset: int, length: int) -> Iterator[bytes]:
        """Yield a range piece by piece.

        Raises:
            CutError: the file ends before the range does.
        """
        while length > 0:
            piece = self.at(offset, min(_CHUNK, length))
            if not piece:
                raise CutError(f"ends at {self.size:,} bytes and must go on for {length:,} more")
            yield piece
            offset += len(piece)
            length -= len(piece)


class Cursor:
    """A place in a file that moves forward.

    Args:
        view: the file.
        position: where to begin.
        window: bytes that are read at a time; small where most of the file is skipped.
    """

    def __init__(self, view: View, position: int = 0, *, window: int = 1 << 16) -> None:
        self.view = view
        self.position = position
        self._window = window
        self._buffer = b""
        self._start = 0

    @property
    def left(self) -> int:
        """Bytes between here and the end of the file."""
        return self.view.size - self.position

    def take(self, length: int) -> bytes:
        """Return the next `length` bytes.

        Raises:
            CutError: the file ends before them.
        """
        begin = self.position - self._start
        if begin < 0 or begin + length > len(self._buffer):
            if length > self.left:
                raise self._cut(length)
            self._buffer = self.view.at(self.position, max(length, self._window))
            self._start, begin = self.position, 0
            if len(self._buffer) < length:
                raise UnclearError("became shorter while it was read")
        self.position += length
        return self._buffer[begin : begin + length]

    def byte(self) -> int:
        """Return the next byte; as `take`, and quick, since pickles are read by it.

        Raises:
            CutError: the file ends before it.
        """
        at = self.position - self._start
        if not 0 <= at < len(self._buffer):
            return self.take(1)[0]
        self.position += 1
        return self._buffer[at]

    def skip(self, length: int) -> None:
        """Go `length` bytes forward.

        Raises:
            CutError: the file ends before that.
        """
        if length > self.left:
            raise self._cut(length)
        self.position += length

    def line(self) -> bytes:
        """Return what comes before the next line feed, and go behind that.

        Raises:
            CutError: the file has no further line feed.
            UnclearError: the line is too long to be one.
        """
        ahead = self.view.at(self.position, _LINE)
        end = ahead.find(b"\n")
        if end < 0 and len(ahead) == _LINE:
            raise UnclearError(f"has a line longer than {_LINE:,} bytes")
        if end < 0:
            raise CutError(f"ends within a line, at {self.view.size:,} bytes")
        self.position += end + 1
        return ahead[:end]

    def number(self, layout: str) -> int:
        """Return the next integer, laid out as `struct` says.

        Raises:
            CutError: the file ends before it.
        """
        value = struct.unpack(layout, self.take(struct.calcsize(layout)))[0]
        return int(value)

    def _cut(self, length: int) -> CutError:
        return CutError(f"ends at {self.view.size:,} of at least {self.position + length:,} bytes")
