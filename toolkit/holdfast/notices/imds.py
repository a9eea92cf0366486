"""Read spot interruptions and rebalance recommendations from EC2's instance metadata (IMDSv2).

Paths and JSON: EC2 user guide, "Spot Instance interruption notices" and "EC2 instance rebalance recommendations".
"""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from holdfast.errors import ConfigError, HoldfastError

TOKEN_SECONDS = 21_600
"""Lifetime of a token in seconds: six hours, the longest that EC2 allows."""

_TOKEN = "/latest/api/token"  # noqa: S105  a path, not a secret
_TOKEN_LIFE = "X-aws-ec2-metadata-token-ttl-seconds"  # noqa: S105
_SPOT_ACTION = "/latest/meta-data/spot/instance-action"
_REBALANCE = "/latest/meta-data/events/recommendations/rebalance"
LONGEST_BODY = 65_536
"""Bytes that are read of an answer, or of a notice file."""

NoticeKind = Literal["spot", "rebalance", "signal", "host"]


@dataclass(frozen=True, slots=True)
class Notice:
    """Notice that this machine will, or may, go away.

    Attributes:
        kind: source: EC2's spot service, its rebalance recommendation, a signal, or a file from the host.
        action: `terminate`, `stop`, `hibernate`, `rebalance`; empty if unknown.
        deadline: time of the action, in seconds since the epoch; None if unknown. A time that has passed counts as
            unknown: EC2 does not withdraw the notice of an interruption that it has cancelled.
    """

    kind: NoticeKind
    action: str
    deadline: float | None
    detail: str


class MetadataError(HoldfastError):
    """Instance metadata gave no usable answer. The message says what to do."""


class MetadataUnreachableError(MetadataError):
    """No connection to the endpoint: not on EC2, on Fargate, or behind a firewall."""


class TokenHangsError(MetadataError):
    """The token request gets no answer: the hop limit is too small for a container."""


class MetadataRefusedError(MetadataError):
    """Instance metadata is switched off for this instance, or lacks IMDSv2."""


class MetadataFaultError(MetadataError):
    """A 5xx, a time-out or a broken answer: the next poll may succeed."""


class MetadataClient:
    """Client of EC2's instance metadata, over one kept connection. For one thread at a time.

    The time-out, in seconds, is that of the connection and that of each answer. Raises ConfigError for an endpoint
    that is not `http://HOST[:PORT]`.
    """

    def __init__(
        self,
        endpoint: str,
        timeout: float = 1.0,
        *,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        host, port = _host_and_port(endpoint)
        self._endpoint = endpoint.rstrip("/")
        # http.client ignores HTTP_PROXY: metadata must never go through a proxy.
        self._connection = http.client.HTTPConnection(host, port, timeout=timeout)
        self._clock = clock
        self._ticks = ticks
        self._token = ""
        self._token_ends = -float("inf")

    def spot_action(self) -> Notice | None:
        """Return the announced interruption, or None. Raises MetadataError."""
        body = self._get(_SPOT_ACTION)
        return None if body is None else parse_action("spot", body, self._clock())

    def rebalance(self) -> Notice | None:
        """Return the recommendation to leave before a likely interruption, or None. Raises MetadataError."""
        body = self._get(_REBALANCE)
        if body is None:
            return None
        return Notice("rebalance", "rebalance", None, f"rebalance recommendation {_one_line(body)!r}")

    def close(self) -> None:
        """Close the connection; the next request opens it again."""
        self._connection.close()

    def _get(self, path: str) -> bytes | None:
        if self._ticks() >= self._token_ends:
            self._renew_token()
        response, body = self._request("GET", path, {"X-aws-ec2-metadata-token": self._token})
        if response.status == 401:  # expired early: a resumed hibernation, or changed metadata options
            self._renew_token()
            response, body = self._request("GET", path, {"X-aws-ec2-metadata-token": self._token})
        if response.status == 404:
            return None
        if response.status != 200:
            raise self._unusable(response.status, f"GET {path}")
        return body

    def _renew_token(self) -> None:
        began = self._ticks()
        try:
            response, body = self._request("PUT", _TOKEN, {_TOKEN_LIFE: str(TOKEN_SECONDS)})
        except TimeoutError as error:
            raise TokenHangsError(
                f"instance metadata at {self._endpoint} accepts the connection and never answers the token request, "
                "which in a container is the hop limit: spot notices are not seen. Raise it with `aws ec2 "
                "modify-instance-metadata-options --instance-id ID --http-put-response-hop-limit 2`, or let the host "
                "drop a notice file (HOLDFAST_HOST_NOTICE_FILE)"
            ) from error
        token = body.decode("latin-1").strip()
        if response.status != 200 or not token.isprintable():  # a header takes printable characters only
            raise self._unusable(response.status, f"PUT {_TOKEN}")
        self._token = token
        life = response.getheader(_TOKEN_LIFE, "")
        seconds = int(life) if life.isascii() and life.isdigit() else 0
        # Renewed a tenth early, so that no poll meets an expired token.
        self._token_ends = began + 0.9 * (seconds or TOKEN_SECONDS)

    def _unusable(self, status: int, request: str) -> MetadataError:
        answered = f"instance metadata at {self._endpoint} answered {status} to {request}"
        if status >= 500 or status == 429:
            return MetadataFaultError(f"{answered}; it is asked again")
        return MetadataRefusedError(
            f"{answered}, so it is switched off or lacks IMDSv2: spot notices are not seen. Allow it with `aws ec2 "
            "modify-instance-metadata-options --instance-id ID --http-endpoint enabled`, or let the host drop a notice "
            "file (HOLDFAST_HOST_NOTICE_FILE)"
        )

    def _request(self, method: str, path: str, headers: dict[str, str]) -> tuple[http.client.HTTPResponse, bytes]:
        """Return the response and its body. Raises TimeoutError for a PUT without an answer, else MetadataError."""
        kept = self._connection.sock is not None
        if not kept:
            self._connect()
        try:
            self._connection.request(method, path, headers=headers)
            response = self._connection.getresponse()
            body = response.read(LONGEST_BODY)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            if kept:  # the other side has closed the idle connection
                return self._request(method, path, headers)
            if isinstance(error, TimeoutError) and method == "PUT":
                raise
            raise MetadataFaultError(
                f"instance metadata at {self._endpoint} did not answer {method} {path} ({error!r}); it is asked again"
            ) from error
        if not response.isclosed():  # longer than any notice
            self._connection.close()
        return response, body

    def _connect(self) -> None:
        try:
            self._connection.connect()
        except OSError as error:  # refused, no route, no such name, dropped by a firewall
            raise MetadataUnreachableError(
                f"there is no instance metadata at {self._endpoint} ({error}): spot notices are not seen. Let the host "
                "drop a notice file (HOLDFAST_HOST_NOTICE_FILE), or set AWS_EC2_METADATA_DISABLED=true"
            ) from error


def parse_action(kind: NoticeKind, body: bytes, now: float) -> Notice:
    """Return the notice in the JSON of an instance-action (`action`, `time`).

    Malformed JSON is a notice without action and time: one stop too many costs a restart, a missed notice costs work.
    """
    fields = None
    with contextlib.suppress(ValueError, RecursionError):
        fields = json.loads(body)
    if not isinstance(fields, dict):
        fields = {}
    action = _one_line(fields.get("action") or "")
    when = _seconds_since_epoch(fields.get("time"))
    quoted = f"{kind} notice {_one_line(body)!r}"
    if when is None:
        return Notice(kind, action, None, f"{quoted}: no time that can be read")
    if action == "hibernate":
        return Notice(kind, action, None, f"{quoted}: hibernation gives no two minutes")
    if when <= now:
        return Notice(kind, action, None, f"{quoted}: its time passed {now - when:.0f} s ago")
    return Notice(kind, action, when, f"{quoted}: in {when - now:.0f} s")


def _seconds_since_epoch(text: Any) -> float | None:
    """Parse an ISO 8601 time, by default in UTC; None for anything else."""
    try:
        when = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _host_and_port(endpoint: str) -> tuple[str, int]:
    try:
        parts = urlsplit(endpoint)
        if parts.scheme == "http" and parts.hostname:
            return parts.hostname, parts.port or 80
    except ValueError:  # not a port, or not an IPv6 address
        pass
    raise ConfigError(f"AWS_EC2_METADATA_SERVICE_ENDPOINT must be http://HOST or http://HOST:PORT; it is {endpoint!r}")


def _one_line(text: object) -> str:
    """Return text, or bytes, as one short line for the log."""
    whole = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return " ".join(whole.split())[:200]
