"""HTTP/1.1, byte for byte, over a real socket: heads, bodies, answers that are cut."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from holdfast.store.s3.http11 import BLOCK, BrokenError, Incoming, Response, ask


class Pair:
    """The two ends of a connection."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.settimeout(10)
        self.theirs.settimeout(10)
        self.incoming = Incoming(self.ours)

    def sends(self, *blocks: bytes) -> None:
        """Send these from another thread, then close the server's end: sockets have little room."""

        def send() -> None:
            with contextlib.suppress(OSError):  # the test may have closed its end
                for block in blocks:
                    self.theirs.sendall(block)
                self.theirs.shutdown(socket.SHUT_WR)

        threading.Thread(target=send, daemon=True).start()

    def answer(self, *blocks: bytes, method: str = "GET") -> Response:
        self.sends(*blocks)
        return Response(self.incoming, method)


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.ours.close()
    made.theirs.close()


def test_an_answer_has_status_headers_in_lower_case_and_a_body_of_the_announced_length(pair: Pair) -> None:
    response = pair.answer(
        b'HTTP/1.1 206 Partial Content\r\nETag: "e"\r\nX-A: 1\r\nx-a:  2 \r\nContent-Length: 5\r\n\r\n12345'
    )
    assert response.status == 206
    assert response.headers["etag"] == '"e"'
    assert response.headers["x-a"] == "1, 2"
    assert not response.reusable
    assert response.read() == b"12345"
    assert response.reusable


def test_a_head_may_come_byte_by_byte_and_interim_answers_are_skipped(pair: Pair) -> None:
    text = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nA: b\r\n\r\n"
    text += b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    response = pair.answer(*(text[at : at + 1] for at in range(len(text))))
    assert response.status == 200
    assert response.read() == b"ok"


def test_answers_one_after_the_other_are_separate(pair: Pair) -> None:
    pair.sends(b"HTTP/1.1 200 A\r\nContent-Length: 3\r\n\r\noneHTTP/1.1 200 B\r\nContent-Length: 3\r\n\r\ntwo")
    assert Response(pair.incoming, "GET").read() == b"one"
    assert Response(pair.incoming, "GET").read() == b"two"


def test_a_chunked_body_is_put_together_and_its_trailers_skipped(pair: Pair) -> None:
    large = b"x" * 100_000
    response = pair.answer(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n",
        b"%x;extension=1\r\n" % len(large) + large + b"\r\n0\r\nTrailer: t\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    )
    assert response.read() == b"one" + large
    assert Response(pair.incoming, "GET").status == 204


@pytest.mark.parametrize("body", [b"3\r\non", b"3\r\none", b"3\r\nfour\r\n0\r\n\r\n", b"three\r\n", b""])
def test_a_chunked_body_that_is_cut_or_malformed_is_an_error(pair: Pair, body: bytes) -> None:
    response = pair.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    with pytest.raises(BrokenError):
        response.read()
    assert not response.reusable


def test_a_body_without_a_length_ends_with_the_connection(pair: Pair) -> None:
    response = pair.answer(b"HTTP/1.1 200 OK\r\n\r\n", b"a" * 70_000, b"b")
    assert response.read() == b"a" * 70_000 + b"b"
    assert not response.reusable


def test_a_body_that_is_cut_is_an_error(pair: Pair) -> None:
    response = pair.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
    with pytest.raises(BrokenError, match="5 bytes too early"):
        response.read()
    assert not response.reusable


@pytest.mark.parametrize(
    ("status", "method"), [(b"200 OK", "HEAD"), (b"204 No Content", "DELETE"), (b"304 Not Modified", "GET")]
)
def test_some_answers_have_no_body_whatever_their_headers_say(pair: Pair, status: bytes, method: str) -> None:
    response = pair.answer(b"HTTP/1.1 " + status + b"\r\nContent-Length: 10\r\n\r\n", method=method)
    assert response.headers["content-length"] == "10"
    assert response.read() == b""
    assert response.reusable


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", True),
    ],
)
def test_a_connection_is_kept_only_where_the_server_keeps_it(pair: Pair, head: bytes, kept: bool) -> None:
    response = pair.answer(head + b"Content-Length: 0\r\n\r\n")
    assert response.read() == b""
    assert response.reusable == kept


@pytest.mark.parametrize(
    "bytes_",
    [b"", b"HTTP/1.1 200", b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/2 200\r\n\r\n", b"x" * 200_000],
    ids=["nothing", "cut", "ssh", "no status", "another version", "no end"],
)
def test_an_answer_that_is_not_http_is_an_error(pair: Pair, bytes_: bytes) -> None:
    with pytest.raises(BrokenError):
        pair.answer(bytes_)


def test_a_large_body_comes_in_blocks_of_bounded_size(pair: Pair) -> None:
    size = 3 * BLOCK + 17
    response = pair.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size, b"z" * size)
    lengths = [len(block) for block in response.blocks()]
    assert sum(lengths) == size
    assert max(lengths) <= BLOCK


def test_a_short_rest_is_read_so_that_the_connection_is_reused(pair: Pair) -> None:
    little = pair.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345")
    little.drain()
    assert little.reusable


def test_a_long_rest_is_not_read(pair: Pair) -> None:
    large = pair.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n12345")
    large.drain()
    assert not large.reusable


def test_a_request_is_its_first_line_its_headers_and_its_body(pair: Pair) -> None:
    blocks = [memoryview(b"a" * 100_000), memoryview(b"b")]
    got = bytearray()

    def serve() -> None:
        while not got.endswith(b"b"):
            got.extend(pair.theirs.recv(1 << 20))
        pair.theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    response = ask(pair.incoming, "PUT", "/k", [("Host", "h"), ("Content-Length", "100001")], blocks)
    assert response.status == 200
    serving.join(10)
    assert bytes(got) == b"PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: 100001\r\n\r\n" + b"a" * 100_000 + b"b"


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\rb"])
def test_a_line_break_in_a_header_never_reaches_the_server(pair: Pair, value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        ask(pair.incoming, "GET", "/k", [("If-Match", value)], ())
    pair.ours.close()
    assert pair.theirs.recv(100) == b""


def test_a_refusal_before_the_whole_body_is_sent_is_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        answered = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 4\r\n\r\nslow")
            connection.shutdown(socket.SHUT_WR)
            answered.set()
            connection.close()

        threading.Thread(target=serve, daemon=True).start()
        ours = socket.create_connection(server.getsockname()[:2])
        ours.settimeout(10)

        def body() -> Iterator[memoryview]:
            yield memoryview(b"x")
            answered.wait(10)
            while True:
                yield memoryview(bytes(1 << 20))

        try:
            response = ask(Incoming(ours), "PUT", "/k", [("Content-Length", "999999999")], body())
        except BrokenError:
            pass  # the reset may overtake the answer: then the request is repeated
        else:
            assert response.status == 503
            assert not response.reusable
        ours.close()


def test_a_timeout_of_the_kernel_is_an_error(pair: Pair) -> None:
    pair.ours.settimeout(None)
    pair.ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 100_000))
    with pytest.raises(BrokenError, match="timed out"):
        Response(pair.incoming, "GET")


def test_a_connection_with_more_bytes_than_announced_is_not_reused(pair: Pair) -> None:
    stray = b'HTTP/1.1 200 OK\r\nETag: "of another"\r\nContent-Length: 4\r\n\r\nbody'
    answered = pair.answer(b"HTTP/1.1 404 Not Found\r\nContent-Length: 78\r\n\r\n" + stray, method="HEAD")
    assert answered.read() == b""
    assert not answered.reusable
