"""HTTP/1.1 over a connected socket: a request goes out, its answer comes back, bodies pass in large pieces.

http.client and urllib3 spend 0.2 ms on each small request, most of it on headers; this spends 0.04. Connections are
still made by urllib3 (`s3_connections`). Defined in RFC 9112.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

PIECE = 1 << 20
"""Bytes of a body that are received at a time, at most."""
_LONGEST_HEAD = 1 << 16
_WORTH_DRAINING = 1 << 16
_NO_BODY = (204, 304)


class BrokenError(Exception):
    """The connection broke, or what came over it is no HTTP; the cause is the operating system's or TLS's error."""


class Stream(Protocol):
    """What is needed of a socket."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """As `socket.recv_into`."""
        ...

    def sendall(self, data: bytes | memoryview, /) -> None:
        """As `socket.sendall`."""
        ...


class Response:
    """An answer, whose body is still to be read from the connection.

    Attributes:
        status: of HTTP.
        headers: by name in lower case; what came several times is joined with commas.
        reusable: whether the connection may serve another request: only when the body has been read to its end, and
            nothing has come behind it that would be taken for the next answer.
        waited: seconds until its head had come.
    """

    def __init__(self, incoming: Incoming, method: str) -> None:
        self._incoming = incoming
        began = time.monotonic()
        version, self.status, self.headers = incoming.head()
        self.waited = time.monotonic() - began
        tokens = self.headers.get("connection", "").lower()
        self._kept = "close" not in tokens and (version == "HTTP/1.1" or "keep-alive" in tokens)
        self._chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        length = self.headers.get("content-length", "")
        self._left: int | None = None  # until the connection ends
        if method == "HEAD" or self.status in _NO_BODY:
            self._left, self._chunked = 0, False
        elif not self._chunked and length.isdecimal():
            self._left = int(length)
        self._ended = self._left == 0

    @property
    def reusable(self) -> bool:
        """Whether another request may follow on the connection."""
        return self._kept and self._ended and self._incoming.is_empty

    def pieces(self) -> Iterator[memoryview]:
        """Yield what is left of the body; a piece is valid until the next one.

        Raises:
            BrokenError: it ended before its end, or the connection broke.
        """
        if self._chunked:
            yield from self._chunks()
        elif self._left is None:
            self._kept = False
            while piece := self._incoming.some(PIECE):
                yield piece
        else:
            while self._left:
                piece = self._incoming.some(self._left)
                if not piece:
                    raise BrokenError(f"the answer ended {self._left:,} bytes too early")
                self._left -= len(piece)
                self._ended = self._left == 0
                yield piece
        self._ended = True

    def _chunks(self) -> Iterator[memoryview]:
        while size := self._chunk_size():
            while size:
                piece = self._incoming.some(size)
                if not piece:
                    raise BrokenError("the answer ended in the middle of a chunk")
                size -= len(piece)
                yield piece
            if self._incoming.line():
                raise BrokenError("a chunk of the answer is longer than it says")
        while self._incoming.line():
            pass  # trailers
        self._chunked, self._left = False, 0

    def _chunk_size(self) -> int:
        text = self._incoming.line().partition(b";")[0].strip()
        try:
            return int(text, 16)
        except ValueError as error:
            raise BrokenError(f"the answer has a chunk of {text[:20]!r} bytes") from error

    def read(self) -> bytes:
        """Return what is left of the body."""
        return b"".join(bytes(piece) for piece in self.pieces())

    def drain(self) -> None:
        """Read what little is left of the body, so that the connection can go on."""
        if not self._ended and (self._left is None or self._left > _WORTH_DRAINING):
            return
        for _ in self.pieces():
            pass


class Incoming:
    """What comes over a connection: lines and pieces.

    Args:
        stream: the connection.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._room = memoryview(bytearray(PIECE))
        self._start = self._end = 0

    @property
    def is_empty(self) -> bool:
        """Whether all that has come has been taken."""
        return self._start == self._end

    def head(self) -> tuple[str, int, Mapping[str, str]]:
        """Return version, status and headers of the answer that comes, past any interim ones."""
        while True:
            version, status, headers = _parsed(self._until(b"\r\n\r\n"))
            if status >= 200:
                return version, status, headers

    def line(self) -> bytes:
        """Return a line, without its end."""
        return self._until(b"\r\n")

    def some(self, most: int) -> memoryview:
        """Return what has come, or what comes next, at most so many bytes; nothing at the end of the connection."""
        if self._start == self._end:
            self._start, self._end = 0, self._receive(self._room[: max(1, most)])
        start, self._start = self._start, min(self._end, self._start + most)
        return self._room[start : self._start]

    def _until(self, mark: bytes) -> bytes:
        """Return what comes before `mark`, and pass over both."""
        found = bytes(self._room[self._start : self._end])
        while (at := found.find(mark)) < 0:
            if len(found) > _LONGEST_HEAD:
                raise BrokenError("the answer's headers have no end")
            if self._start:
                self._room[: len(found)] = found
                self._start, self._end = 0, len(found)
            length = self._receive(self._room[self._end : self._end + _LONGEST_HEAD])
            if not length:
                raise BrokenError(
                    "the server closed the connection before it answered" if not found else "the answer is not HTTP"
                )
            found += self._room[self._end : self._end + length]
            self._end += length
        self._start += at + len(mark)
        return found[:at]

    def _receive(self, room: memoryview) -> int:
        try:
            return self._stream.recv_into(room)
        except BlockingIOError as error:
            raise BrokenError("timed out") from error
        except OSError as error:
            raise BrokenError("receiving failed") from error


def _parsed(head: bytes) -> tuple[str, int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
        raise BrokenError(f"the answer is not HTTP: {first[:40]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return version, int(rest[:3]), headers


def ask(
    stream: Stream,
    incoming: Incoming,
    method: str,
    target: str,
    headers: Sequence[tuple[str, str]],
    body: Iterable[memoryview],
) -> Response:
    """Send a request and return its answer.

    Args:
        stream: the connection.
        incoming: what comes over it.
        method: GET, PUT, …
        target: as it stands in the first line.
        headers: all of them.
        body: its pieces.

    Raises:
        BrokenError: the connection broke.
        ValueError: a header has a line break.
    """
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    text = "\r\n".join([*lines, "", ""])
    if text.count("\n") != len(lines) + 1 or text.count("\r") != len(lines) + 1:
        raise ValueError(f"a header of {method} {target} has a line break")
    waiting: bytes | None = text.encode("latin-1")
    try:
        for piece in body:
            if waiting is not None and len(piece) <= _LONGEST_HEAD:
                _send(stream, b"".join((waiting, piece)))  # in one system call, and one packet where it fits
            else:
                if waiting is not None:
                    _send(stream, waiting)
                _send(stream, piece)
            waiting = None
        if waiting is not None:
            _send(stream, waiting)
    except _RefusedError as refused:
        return _last_words(incoming, method, refused)
    return Response(incoming, method)


class _RefusedError(BrokenError):
    """The server takes no more. It may have said why."""


def _send(stream: Stream, data: bytes | memoryview) -> None:
    try:
        stream.sendall(data)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise _RefusedError("sending failed") from error
    except BlockingIOError as error:
        raise BrokenError("timed out") from error
    except OSError as error:
        raise BrokenError("sending failed") from error


def _last_words(incoming: Incoming, method: str, refused: _RefusedError) -> Response:
    """Return the answer that a server gave before it took the whole request: a refusal, or a plea to slow down."""
    try:
        response = Response(incoming, method)
    except BrokenError:
        raise refused from refused.__cause__
    if response.status < 300:
        raise refused
    response._kept = False
    return response
