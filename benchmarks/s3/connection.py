"""One connection of a client: requests in, answers out."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

from benchmarks.s3 import copies, forms, verbs
from benchmarks.s3.buckets import Buckets
from benchmarks.s3.contents import RefusedError, Segment
from benchmarks.s3.counters import Counters
from benchmarks.s3.streams import Body, Incoming, read_fields, read_line
from benchmarks.s3.verbs import Answer, Request

CONTROL = "-"  # in the place of a bucket's name
PIECE = 1 << 20  # bytes that one call encrypts and sends
STRETCH = 4 << 20  # bytes of a file that one call sends

Verb = Callable[[Request, Buckets], Answer]
_OBJECT: Mapping[str, tuple[str, Verb]] = {
    "GET": ("GetObject", verbs.get_object),
    "HEAD": ("HeadObject", verbs.get_object),
    "PUT": ("PutObject", verbs.put_object),
    "PUT copy": ("CopyObject", copies.copy_object),
    "DELETE": ("DeleteObject", verbs.delete_object),
    "POST uploads": ("CreateMultipartUpload", verbs.begin_upload),
    "PUT uploadId": ("UploadPart", verbs.upload_part),
    "PUT copy uploadId": ("UploadPartCopy", copies.upload_part_copy),
    "POST uploadId": ("CompleteMultipartUpload", verbs.complete_upload),
    "DELETE uploadId": ("AbortMultipartUpload", verbs.abort_upload),
    "GET uploadId": ("ListParts", verbs.list_parts),
}
_BUCKET: Mapping[str, tuple[str, Verb]] = {
    "GET": ("ListObjects", verbs.list_objects),
    "GET list-type": ("ListObjectsV2", verbs.list_objects),
    "GET uploads": ("ListMultipartUploads", verbs.list_uploads),
    "GET location": ("GetBucketLocation", lambda _, __: Answer(body=forms.document("LocationConstraint", []))),
    "HEAD": ("HeadBucket", lambda _, __: Answer()),
    "PUT": ("CreateBucket", lambda _, __: Answer()),
    "POST delete": ("DeleteObjects", verbs.delete_objects),
}
_SUBRESOURCES = (
    "uploads",
    "uploadId",
    "delete",
    "location",
    "list-type",
    *("acl", "attributes", "cors", "lifecycle", "object-lock", "policy", "tagging", "versioning", "versions"),
)


def verb_of(request: Request) -> tuple[str, Verb]:
    """Return the name of what a request wants, as S3 has it, and what does it.

    Raises:
        RefusedError: this server has nothing of the kind.
    """
    words = [request.method]
    if "x-amz-copy-source" in request.headers:
        words.append("copy")
    words += [name for name in _SUBRESOURCES if name in request.query]
    table = _OBJECT if request.key else _BUCKET
    try:
        return table[" ".join(words)]
    except KeyError:
        raise RefusedError(501, "NotImplemented") from None


class Connection:
    """Serves a client until it goes away.

    Args:
        connection: accepted, its TLS handshake done.
        buckets: what is served.
        counters: count what happens here.
    """

    def __init__(self, connection: socket.socket, buckets: Buckets, counters: Counters) -> None:
        self._connection = connection
        self._incoming = Incoming(connection)
        self._buckets = buckets
        self._counters = counters

    def serve(self) -> None:
        """Answer requests, one after another."""
        while first := read_line(self._incoming):
            # A client that sends a request in several small pieces would wait for the acknowledgement of each, 40 ms.
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            method, target, _ = first.decode("latin-1").split(" ", 2)
            headers = read_fields(self._incoming)
            if headers.get("expect", "").lower() == "100-continue":
                self._connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            request = _parse(method, target, headers, Body(self._incoming, headers))
            kind, answer = self._answer(request)
            for _ in request.body:
                pass  # the unread rest would stand before the next request
            self._give(kind, answer, method)
            if headers.get("connection", "").lower() == "close":
                return

    def _answer(self, request: Request) -> tuple[str | None, Answer]:
        """Return the kind of a request (None: not S3's) and the answer to it."""
        if request.bucket == CONTROL:
            return None, self._control(request)
        kind = request.method
        try:
            kind, verb = verb_of(request)
            return kind, verb(request, self._buckets)
        except (KeyError, ValueError):
            refused = RefusedError(400, "InvalidArgument")
        except RefusedError as error:
            refused = error
        return kind, Answer(refused.status, {"Content-Type": "application/xml"}, forms.error(refused))

    def _control(self, request: Request) -> Answer:
        """GET /-/ gives the counters, POST /-/ sets them to nothing, DELETE /-/BUCKET drops what is in a bucket."""
        if request.method == "POST":
            self._counters.reset()
        elif request.method == "DELETE":
            self._buckets.forget(request.key)
        return Answer(body=self._counters.as_json())

    def _give(self, kind: str | None, answer: Answer, method: str) -> None:
        size = len(answer.body) if answer.size is None else answer.size
        lines = [
            f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
            f"Date: {formatdate(usegmt=True)}",
            "Server: holdfast-bench",
            "x-amz-request-id: 0",
            *(f"{name}: {value}" for name, value in answer.headers.items()),
            f"Content-Length: {size}",
        ]
        if answer.status == 204:
            lines.pop()
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (b"" if method == "HEAD" else answer.body)
        # Counted before the client can have its answer: who asks for the counters after it finds it counted.
        if kind is not None:
            self._counters.add(kind, received=self._incoming.received, sent=len(head))
        self._incoming.received = 0
        if len(answer.segments) == 1 and answer.segments[0].content.file is None:
            only = answer.segments[0]
            self._counters.add_sent(only.size)
            self._connection.sendall(head + only.content.read(only.offset, only.size))
            return
        self._connection.sendall(head)
        for segment in answer.segments:
            self._send(segment)

    def _send(self, segment: Segment) -> None:
        file, offset, end = segment.content.file, segment.offset, segment.offset + segment.size
        encrypted = isinstance(self._connection, ssl.SSLSocket)
        while offset < end:
            size = min(PIECE if encrypted else STRETCH, end - offset)
            self._counters.add_sent(size)  # in steps: some clients hang up in the middle
            if file is None or encrypted:
                self._connection.sendall(segment.content.read(offset, size))
                offset += size
            else:
                stretch = offset + size
                while offset < stretch:
                    offset += os.sendfile(self._connection.fileno(), file, offset, stretch - offset)


def _parse(method: str, target: str, headers: Mapping[str, str], body: Body) -> Request:
    path, _, query = target.partition("?")
    bucket, _, key = unquote(path, errors="surrogateescape").removeprefix("/").partition("/")
    found = dict(parse_qsl(query, keep_blank_values=True, errors="surrogateescape"))
    return Request(method, bucket, key, found, headers, body)
