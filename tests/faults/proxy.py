"""A reverse proxy that breaks what passes through it, request by request, as a test tells it to.

Own code, since what there is works on another level: toxiproxy below HTTP, where no single request can be picked and no
answer be lost after the work was done; mitmproxy frames messages anew, so that no length is ever wrong, and brings
forty packages. Bodies are held in memory: holdfast sends and asks for 64 MiB at most.
"""

from __future__ import annotations

import contextlib
import http.client
import math
import random
import re
import socket
import socketserver
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

from tests.servers import Answer, Seen, error

from holdfast.checksum import crc64nvme, to_base64

_PIECE = 1 << 16
_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one request. What is not set is as always; the rest happens in the order in which it stands here.

    Attributes:
        first: called before anything else.
        reset_up_after: the connection is reset when so many bytes of the request's body have come.
        target: turns the request's target into the one that the server gets.
        up: turns the body that came into the one that the server gets.
        instead: the answer, and the server is not asked. A function sees the request (without its body) and says None
            when all is as always.
        raw: bytes that go back instead of HTTP, and the server is not asked.
        loses_answer: the server does its work, and the connection is reset.
        down: turns the server's answer into the one that goes back.
        stalls_after: nothing is sent any more when so many bytes of the answer's body have gone; -1: not even its head.
        cut_down_after: the connection is closed when so many bytes of the answer's body have gone.
        reset_down_after: the same, and it is reset.
        bytes_per_second: how fast bodies travel.
    """

    first: Callable[[], object] | None = None
    reset_up_after: int | None = None
    target: Callable[[str], str] | None = None
    up: Callable[[bytes], bytes] | None = None
    instead: Answer | Callable[[Seen], Answer | None] | None = None
    raw: bytes | None = None
    loses_answer: bool = False
    down: Callable[[Answer], Answer] | None = None
    stalls_after: int | None = None
    cut_down_after: int | None = None
    reset_down_after: int | None = None
    bytes_per_second: float | None = None


@dataclass(slots=True)
class Rule:
    """When a fault happens, and how often it did."""

    pattern: re.Pattern[str]
    fault: Fault
    skip: int
    times: float
    chance: float
    fired: int = 0


@dataclass(slots=True)
class Exchange:
    """A request that passed, for tests to look at: `broken` says whether a fault broke it."""

    method: str
    target: str
    broken: bool
    headers: dict[str, str] = field(repr=False)


class FaultyProxy:
    """Passes requests on to an S3 server, on a loopback socket of its own.

    Args:
        upstream: address of the server.
        seed: of the chances that rules take.
        checks: refuse a body that is not what its CRC64NVME says, as S3 does and moto does not.
    """

    def __init__(self, upstream: str, *, seed: int = 0, checks: bool = True) -> None:
        self.seen: list[Exchange] = []
        self.rules: list[Rule] = []
        self._upstream = urlsplit(upstream)
        self._random = random.Random(seed)
        self.checks = checks
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._connections: set[socket.socket] = set()
        self._port = 0
        self._server: socketserver.ThreadingTCPServer | None = None

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        self._released.set()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def on(self, pattern: str, fault: Fault, *, skip: int = 0, times: float = 1, chance: float = 1.0) -> Rule:
        """Break requests.

        Args:
            pattern: is searched in the method, a space, and the target with its percent-encoding taken off.
            fault: what happens.
            skip: so many that fit pass unharmed first.
            times: so many are broken at most.
            chance: of each to be broken.
        """
        rule = Rule(re.compile(pattern), fault, skip, times, chance)
        with self._lock:
            self.rules.append(rule)
        return rule

    def always(self, pattern: str, fault: Fault) -> Rule:
        """Break every request that fits, until `mend`."""
        return self.on(pattern, fault, times=math.inf)

    def mend(self) -> None:
        """Break nothing from now on. The rules stay in `rules`, with what they did."""
        with self._lock:
            for rule in self.rules:
                rule.times = 0

    def asked(self, pattern: str) -> int:
        """Count the requests that fit."""
        return sum(bool(re.search(pattern, f"{exchange.method} {exchange.target}")) for exchange in list(self.seen))

    def listen(self) -> None:
        """Take connections, always at the same address."""
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                outer._serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 64

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def refuse(self) -> None:
        """Refuse connections, and break those that there are, as a server does that is restarted."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.add(connection)
        server = http.client.HTTPConnection(self._upstream.hostname or "", self._upstream.port, timeout=120)
        try:
            with connection, connection.makefile("rb") as stream:
                while self._exchange(connection, stream.readline, stream.read, server):
                    pass
        except (OSError, http.client.HTTPException):
            pass  # one side has gone, and that breaks the other: what a proxy does
        finally:
            server.close()
            with self._lock:
                self._connections.discard(connection)

    def _exchange(
        self,
        connection: socket.socket,
        readline: Callable[[], bytes],
        read: Callable[[int], bytes],
        server: http.client.HTTPConnection,
    ) -> bool:
        """Pass one request on; return whether the connection goes on."""
        words = readline().decode("latin-1").split()
        if not words:
            return False
        headers = {}
        while line := readline().decode("latin-1").rstrip("\r\n"):
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        seen = Seen(words[0], words[1], headers, b"")
        fault, instead = self._choose(seen)
        if fault.first is not None:
            fault.first()
        length = int(headers.get("content-length", "0"))
        if fault.reset_up_after is not None:
            read(min(length, fault.reset_up_after))
            return _reset(connection)
        body = self._receive(read, length, fault.bytes_per_second)
        if len(body) < length:
            return False
        if fault.raw is not None:
            connection.sendall(fault.raw)
            return False
        changed = replace(
            seen,
            target=fault.target(seen.target) if fault.target else seen.target,
            body=fault.up(body) if fault.up else body,
        )
        answer = instead or self._ask(server, changed)
        if fault.loses_answer:
            return _reset(connection)
        return self._answer(connection, seen.method, fault.down(answer) if fault.down else answer, fault)

    def _choose(self, seen: Seen) -> tuple[Fault, Answer | None]:
        """Return what happens to a request, and the answer where the server is not asked."""
        text = f"{seen.method} {unquote(seen.target)}"
        with self._lock:
            for rule in self.rules:
                if rule.fired >= rule.times or not rule.pattern.search(text):
                    continue
                instead = rule.fault.instead
                answer = instead(seen) if callable(instead) else instead
                if instead is not None and answer is None:
                    continue
                if rule.skip > 0:
                    rule.skip -= 1
                    continue
                if self._random.random() < rule.chance:
                    rule.fired += 1
                    self.seen.append(Exchange(seen.method, unquote(seen.target), True, dict(seen.headers)))
                    return rule.fault, answer
            self.seen.append(Exchange(seen.method, unquote(seen.target), False, dict(seen.headers)))
            return Fault(), None

    def _receive(self, read: Callable[[int], bytes], length: int, rate: float | None) -> bytes:
        if rate is None:
            return read(length)
        found = b""
        while len(found) < length and not self._released.wait(0.1):
            piece = read(min(length - len(found), max(1, int(rate / 10))))
            if not piece:
                break
            found += piece
        return found

    def _ask(self, server: http.client.HTTPConnection, seen: Seen) -> Answer:
        if self.checks and seen.body:
            said = seen.headers.get("x-amz-checksum-crc64nvme")
            # On a completion the checksum is that of the object and not of the list of its parts.
            if seen.method == "PUT" and said not in (None, to_base64(crc64nvme(seen.body))):
                return error(400, "BadDigest", "The CRC64NVME you specified did not match the calculated checksum.")
        server.putrequest(seen.method, seen.target, skip_host=True, skip_accept_encoding=True)
        for name, value in seen.headers.items():
            if name not in _HOP:
                server.putheader(name, value)
        if seen.method in ("PUT", "POST"):
            server.putheader("Content-Length", str(len(seen.body)))
        server.endheaders()
        for start in range(0, len(seen.body), _PIECE):
            server.send(seen.body[start : start + _PIECE])
        response = server.getresponse()
        body = response.read()
        headers = {name: value for name, value in response.getheaders() if name.lower() not in _HOP}
        if seen.method == "HEAD":
            headers["Content-Length"] = response.getheader("Content-Length", "0")
        return Answer(response.status, headers, body)

    def _answer(self, connection: socket.socket, method: str, answer: Answer, fault: Fault) -> bool:
        body = b"" if method == "HEAD" else answer.body
        head = {"Content-Length": str(len(body)), **answer.headers}
        lines = [f"HTTP/1.1 {answer.status} Said", *(f"{name}: {value}" for name, value in head.items())]
        if fault.stalls_after == -1:
            self._released.wait()
            return False
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        ends = (fault.stalls_after, fault.cut_down_after, fault.reset_down_after)
        self._send(connection, body[: min((end for end in ends if end is not None), default=None)], fault)
        if fault.stalls_after is not None:
            self._released.wait()
            return False
        if fault.reset_down_after is not None:
            return _reset(connection)
        return fault.cut_down_after is None

    def _send(self, connection: socket.socket, body: bytes, fault: Fault) -> None:
        if fault.bytes_per_second is None:
            connection.sendall(body)
            return
        step = max(1, int(fault.bytes_per_second / 10))
        for start in range(0, len(body), step):
            if self._released.wait(0.1):
                return
            connection.sendall(body[start : start + step])


def _reset(connection: socket.socket) -> bool:
    """Make the coming close a reset, as one with no time to linger is."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False
