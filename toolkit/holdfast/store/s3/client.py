"""Send signed HTTP requests to one bucket, without retries."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, partial
from urllib.parse import quote

import urllib3

import holdfast
from holdfast.errors import PermanentStoreError, TransientStoreError
from holdfast.stop import StopToken
from holdfast.store import Sink
from holdfast.store.body import blocks
from holdfast.store.location import Location
from holdfast.store.s3 import errors, messages
from holdfast.store.s3.connections import Connection, Connections
from holdfast.store.s3.http11 import BrokenError, Response, ask
from holdfast.store.s3.settings import Address, S3Settings, address
from holdfast.store.s3.signer import Signer
from holdfast.workers.concurrency import Concurrency

_LEAST_READ_SECONDS = 1.0
_SLOW_DOWN = (429, 503)
_COMMON_HEADERS = (("User-Agent", f"holdfast/{holdfast.__version__}"), ("Accept-Encoding", "identity"))


class Client:
    """Sends requests to one bucket and returns the answers. Safe to use from several threads.

    Args:
        stop: its deadline limits the read timeout to half of the seconds left, so that one connection that hangs leaves
            time for another.
        allow, concurrency: as `S3Store`.
    """

    def __init__(
        self,
        settings: S3Settings,
        location: Location,
        stop: StopToken,
        allow: Callable[[int], int],
        concurrency: Concurrency,
    ) -> None:
        self.bucket = location.bucket
        self.prefix = f"{location.prefix}/" if location.prefix else ""
        self._settings = settings
        self._signer = Signer(settings)
        self._region: str | None = None
        self._stop = stop
        self._allow = allow
        self._concurrency = concurrency
        self._connections = Connections(settings, self._read_seconds)
        self._address = cache(partial(address, settings, self.bucket))

    @contextmanager
    def send(self, request: messages.Request) -> Iterator[Response]:
        """Make a request and yield its answer, whose body is still to be read.

        A request is repeated once in the right region, once with new credentials where they have expired, and once with
        the server's time where this machine's clock is wrong.

        Raises:
            StoreError: the server refused, or could not be reached; also when the connection breaks inside the `with`.
        """
        moved = renewed = clocked = False
        while True:
            region = self._region = self._region or self._signer.region()
            place = self._address(region)
            connection = response = None
            refused = False
            self._concurrency.began()
            try:
                connection = self._connections.take(place.origin)
                response = self._exchange(request, place, region, connection)
                if response.status < 300:
                    yield response
                    response.drain()
                    return
                problem = errors.read_problem(response.status, response.headers, response.read())
                refused = problem.status in _SLOW_DOWN
            except (urllib3.exceptions.HTTPError, BrokenError) as error:
                refused = True
                raise errors.from_connection(error, f"{request.doing} failed: {place.origin}") from error
            finally:
                waited = math.inf if response is None else response.waited
                self._concurrency.ended(_size(request, response), refused=refused, waited=waited)
                if connection is not None:
                    if response is not None and response.reusable:
                        self._connections.give_back(connection)
                    else:
                        connection.close()
            if problem.status in (301, 307, 400) and problem.region not in (None, region) and not moved:
                self._region, moved = problem.region, True
            elif problem.is_expiry and not renewed:
                self._signer.renew()
                renewed = True
            elif problem.date is not None and problem.is_skew(datetime.now(UTC)) and not clocked:
                self._signer.set_clock(problem.date)
                clocked = True
            else:
                raise problem.as_error(request, self.bucket, place.origin)

    def answer(self, request: messages.Request, expected: str) -> ET.Element:
        """Make a request and return its answer: XML with this root. S3 may put an error into the body of a success.

        Raises:
            TransientStoreError: the answer is something else, for example the page of a proxy.
            StrangeAnswerError: the answer is something else with an ETag: the server has stored an object.
        """
        with self.send(request) as response:
            text, stored = response.read(), "etag" in response.headers
        try:
            root = messages.parse_xml(text)
        except TransientStoreError as error:
            raise errors.StrangeAnswerError(str(error)) if stored else error from error
        problem = errors.problem_in_success(root)
        if problem is not None:
            raise problem.as_error(request, self.bucket, self._address(self._region or "").origin)
        if root.tag != expected:
            message = f"{request.doing} failed: the answer is not what S3 sends (<{root.tag}>)"
            raise errors.StrangeAnswerError(message) if stored else TransientStoreError(message)
        return root

    def target(self, key: str) -> str:
        """Return a bucket and key as a header names an object."""
        return f"/{self.bucket}/{_quoted(self.prefix + key)}"

    def _read_seconds(self) -> float:
        return min(self._settings.read_seconds, max(_LEAST_READ_SECONDS, self._stop.seconds_left() / 2))

    def _exchange(self, request: messages.Request, place: Address, region: str, connection: Connection) -> Response:
        target = f"{place.path}/{_quoted(self.prefix + request.key)}" if request.key is not None else place.path or "/"
        if request.query:
            fields = sorted((quote(name, safe=""), quote(value, safe="")) for name, value in request.query)
            target += "?" + "&".join(f"{name}={value}" for name, value in fields)
        headers = dict(request.headers)
        if request.method in ("PUT", "POST"):
            headers["Content-Length"] = str(request.body.size if request.body else 0)
        signed = self._signer.sign(request.method, place.host, target, headers, region)
        return ask(
            connection.incoming,
            request.method,
            place.origin + target if place.forwarded else target,
            [*signed.items(), *_COMMON_HEADERS],
            blocks(request.body, self._allow) if request.body and request.body.size else (),
        )


def _size(request: messages.Request, response: Response | None) -> int:
    """Return the announced bytes of both bodies."""
    length = response.headers.get("content-length", "") if response is not None and request.method == "GET" else ""
    return (request.body.size if request.body else 0) + (int(length) if length.isdecimal() else 0)


def _quoted(key: str) -> str:
    return quote(key.encode("utf-8", "surrogateescape"), safe="/~")


def deliver(response: Response, key: str, size: int | None, sink: Sink, *, ranged: bool) -> None:
    """Pass the body of an answer to `sink`, block by block.

    Args:
        size: requested bytes; None for those that the answer announces.
        ranged: whether a range was requested, so that a whole object is wrong.

    Raises:
        TransientStoreError: there were fewer bytes.
        PermanentStoreError: there were other bytes than requested.
    """
    announced = response.headers.get("content-length", "")
    expected = size if size is not None else int(announced) if announced.isdecimal() else None
    received = 0
    for block in response.blocks():
        received += len(block)
        if (ranged and response.status == 200) or (expected is not None and received > expected):
            raise PermanentStoreError(f"reading {key!r} failed: the server does not return ranges of an object")
        sink(block)
    if expected is not None and received != expected:
        raise TransientStoreError(f"reading {key!r} ended after {received:,} of {expected:,} bytes")
