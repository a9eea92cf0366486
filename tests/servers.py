"""Servers for tests, all real and on loopback: moto's S3 as a process, and one that answers as a test tells it to."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import boto3
import pytest
from examples.demo.object_server import ObjectServer, serve_objects

SECRET = "a secret of the tests"
KEYS = {"AWS_ACCESS_KEY_ID": "ACCESSKEY", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="session")
def s3_server() -> Iterator[ObjectServer]:
    """An S3 server for the whole session, on which tests keep apart by prefix: moto's, as a process of its own.

    With HOLDFAST_TEST_S3_ENDPOINT another one, with the keys that AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY state.
    """
    endpoint = os.environ.get("HOLDFAST_TEST_S3_ENDPOINT")
    if endpoint is None:
        with serve_objects("contract") as server:
            yield server
        return
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    bucket = f"contract-{secrets.token_hex(4)}"
    client.create_bucket(Bucket=bucket)
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    environment = {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_REGION": "us-east-1",
        **{name: os.environ[name] for name in names},
    }
    yield ObjectServer(endpoint, bucket, environment, client)
    client.close()


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it came over the socket."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    def signature_fits(self, secret: str) -> bool:
        """Whether the signature is that of this request, worked out here anew from the bytes that arrived."""
        said = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=[^/]+/(\d{8})/([^/]+)/s3/aws4_request, ?SignedHeaders=([^,]+), ?"
            r"Signature=(\w+)",
            self.headers["authorization"],
        )
        assert said is not None
        day, region, names, signature = said.groups()
        path, _, query = self.target.partition("?")
        fields = "&".join(sorted(part if "=" in part else f"{part}=" for part in query.split("&") if part))
        lines = [f"{name}:{' '.join(self.headers[name].split())}\n" for name in names.split(";")]
        canonical = "\n".join(
            [self.method, path, fields, "".join(lines), names, self.headers["x-amz-content-sha256"]],
        )
        scope = f"{day}/{region}/s3/aws4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = "\n".join(["AWS4-HMAC-SHA256", self.headers["x-amz-date"], scope, digest])
        key = f"AWS4{secret}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.compare_digest(hmac.digest(key, text.encode(), "sha256").hex(), signature)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server shall do with a request.

    Attributes:
        status: of HTTP.
        headers: beside Content-Length.
        body: of the answer.
        cut_after: close the connection when so many bytes of the body are sent.
        reset_after: reset the connection when so many bytes of the request's body have come.
        waits_for: do nothing at first, until this is set.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None
    reset_after: int | None = None
    waits_for: threading.Event | None = None


def error(status: int, code: str, message: str = "", **headers: str) -> Answer:
    """Return an error as S3 states it."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def listing(*keys: str, more: str | None = None) -> Answer:
    """Return a page of ListObjectsV2 with objects of one byte."""
    entries = "".join(
        f'<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>"e"</ETag><Size>1</Size></Contents>'
        for key in keys
    )
    tail = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{more}</NextContinuationToken>" if more else ""
    return Answer(
        body=f"<ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><EncodingType>url</EncodingType>"
        f"{entries}{tail}</ListBucketResult>".encode()
    )


class ScriptedServer:
    """Answers the requests that come, in the order in which they come, with the answers given, and keeps the requests.

    Args:
        answers: one for each request; a request for which there is none gets a 418.
        tls: certificate and key in PEM files, for a server with TLS.
    """

    def __init__(self, *answers: Answer | Callable[[Seen], Answer], tls: tuple[str, str] | None = None) -> None:
        self.seen: list[Seen] = []
        self.connections = 0
        """So many were made."""
        self._answers = list(answers)
        self._lock = threading.Lock()
        self._context = None
        if tls:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*tls)
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                outer._serve(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def environ(self, **more: str) -> dict[str, str]:
        """Return the variables with which a store uses this server."""
        return {**KEYS, "AWS_ENDPOINT_URL_S3": self.endpoint, **more}

    @property
    def asked(self) -> Sequence[str]:
        """Method and path of each request."""
        return [f"{seen.method} {urlsplit(seen.target).path}" for seen in self.seen]

    def _serve(self, connection: socket.socket) -> None:
        self.connections += 1
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as stream:
                while self._exchange(connection, stream.readline, stream.read):
                    pass
        except OSError:
            pass  # the client has gone: that is what some tests are about

    def _exchange(self, connection: socket.socket, readline: Callable[[], bytes], read: Callable[[int], bytes]) -> bool:
        """Serve one request; return whether the connection goes on."""
        first = readline().decode("latin-1").split()
        if not first:
            return False
        headers = {}
        while line := readline().decode("latin-1").rstrip("\r\n"):
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        with self._lock:
            answer = self._answers.pop(0) if self._answers else Answer(418, body=b"the script is over")
        length = int(headers.get("content-length", "0"))
        if isinstance(answer, Answer):
            if answer.waits_for is not None:
                answer.waits_for.wait()
            if answer.reset_after is not None:
                read(min(length, answer.reset_after))
                self.seen.append(Seen(first[0], first[1], headers, b""))
                # Closing with no time to linger sends a reset.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()
                return False
        seen = Seen(first[0], first[1], headers, read(length))
        self.seen.append(seen)
        if not isinstance(answer, Answer):
            answer = answer(seen)
        head = {"Content-Length": str(len(answer.body)), **answer.headers}
        lines = [f"HTTP/1.1 {answer.status} Said", *(f"{name}: {value}" for name, value in head.items())]
        body = b"" if seen.method == "HEAD" else answer.body[: answer.cut_after]
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body)
        if answer.cut_after is not None:
            connection.shutdown(socket.SHUT_RDWR)
            return False
        return True
