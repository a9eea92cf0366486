"""Bytes that come over a socket, without a needless copy: the socket, a counted part of it, and chunked bodies."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from typing import Protocol

BUFFER = 1 << 20  # bytes that one call reads; the larger, the fewer calls for a large body


class Stream(Protocol):
    """Bytes in order, looked at where they lie."""

    def peek(self) -> memoryview:
        """Return the bytes that are there, reading more when there are none; empty at the end. Valid until the next."""
        ...

    def skip(self, count: int) -> None:
        """Go past bytes that the last peek showed."""
        ...


class Incoming:
    """What a connection receives."""

    def __init__(self, connection: socket.socket) -> None:
        self.received = 0
        self._connection = connection
        self._buffer = memoryview(bytearray(BUFFER))
        self._begin = self._end = 0

    def peek(self) -> memoryview:
        if self._begin == self._end:
            self._begin, self._end = 0, self._connection.recv_into(self._buffer)
            self.received += self._end
        return self._buffer[self._begin : self._end]

    def skip(self, count: int) -> None:
        self._begin += count


class Counted:
    """The next so many bytes of another stream."""

    def __init__(self, stream: Stream, size: int) -> None:
        self._stream = stream
        self._left = size

    def peek(self) -> memoryview:
        return _within(self._stream, self._left)

    def skip(self, count: int) -> None:
        self._stream.skip(count)
        self._left -= count


def _within(stream: Stream, left: int) -> memoryview:
    """Return some of the next bytes of a stream that has so many.

    Raises:
        ConnectionError: it has not; what was cut off must not be stored.
    """
    if left == 0:
        return memoryview(b"")
    view = stream.peek()[:left]
    if not view:
        raise ConnectionError("the client has gone in the middle of a body")
    return view


class Chunked:
    """The content of a chunked body: HTTP's, or S3's own (aws-chunked), which are framed alike.

    Attributes:
        trailers: what followed the last chunk, by name in small letters; there when the stream has ended.
    """

    def __init__(self, stream: Stream) -> None:
        self.trailers: dict[str, str] = {}
        self._stream = stream
        self._left = 0
        self._ended = self._begun = False

    def peek(self) -> memoryview:
        if self._left == 0 and not self._ended:
            if self._begun:
                read_line(self._stream)  # the line break after a chunk
            self._begun = True
            self._left = int(read_line(self._stream).split(b";")[0], 16)
            if self._left == 0:
                self._ended = True
                self.trailers = read_fields(self._stream)
        return _within(self._stream, self._left)

    def skip(self, count: int) -> None:
        self._stream.skip(count)
        self._left -= count


def read_line(stream: Stream) -> bytes:
    """Read up to the next line break and return what is before it. The end of the stream is an empty line."""
    line = b""
    while view := stream.peek():
        found = bytes(view[:4096])
        end = found.find(b"\n")
        if end >= 0:
            stream.skip(end + 1)
            return (line + found[:end]).rstrip(b"\r")
        line += found
        stream.skip(len(found))
    return line


def read_fields(stream: Stream) -> dict[str, str]:
    """Read the lines of a header or trailer up to the empty one; names in small letters."""
    fields = {}
    while line := read_line(stream):
        name, _, value = line.decode("latin-1").partition(":")
        fields[name.strip().lower()] = value.strip()
    return fields


def pieces(stream: Stream) -> Iterator[memoryview]:
    """Yield what is left of a stream; each piece is valid until the next is asked for."""
    while view := stream.peek():
        yield view
        stream.skip(len(view))


class Body:
    """The content of a request, unwrapped.

    Args:
        stream: where the request's head has just been read from.
        headers: of the request, names in small letters.

    Attributes:
        size: bytes of the content, as the client announces them; None when it does not.
    """

    def __init__(self, stream: Stream, headers: Mapping[str, str]) -> None:
        self._layers: list[Counted | Chunked] = []
        size = headers.get("x-amz-decoded-content-length") or headers.get("content-length")
        chunked = "chunked" in headers.get("transfer-encoding", "")
        self.size = int(size) if size else None if chunked else 0
        if chunked:
            self._layers.append(Chunked(stream))
        else:
            self._layers.append(Counted(stream, int(headers.get("content-length", "0"))))
        signed_in_chunks = headers.get("x-amz-content-sha256", "").startswith("STREAMING-")
        if signed_in_chunks or "aws-chunked" in headers.get("content-encoding", ""):
            self._layers.append(Chunked(self._layers[-1]))

    def __iter__(self) -> Iterator[memoryview]:
        for layer in reversed(self._layers):
            yield from pieces(layer)

    @property
    def trailers(self) -> dict[str, str]:
        """What followed the content; there when it has been read."""
        last = self._layers[-1]
        return last.trailers if isinstance(last, Chunked) else {}
