"""EC2's instance metadata, as far as it tells that the instance will go away.

Paths and JSON are those of the EC2 user guide: "Spot Instance interruption notices" and "EC2 instance rebalance
recommendations". IMDSv2 only: its token request also tells a hop limit that is too small from a machine not on EC2.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import urlsplit

from holdfast.errors import ConfigError, HoldfastError

TOKEN_SECONDS = 21_600
"""Six hours, the longest life that EC2 gives to a token."""

_TOKEN = "/latest/api/token"  # noqa: S105  a path, not a secret
_TOKEN_LIFE = "X-aws-ec2-metadata-token-ttl-seconds"  # noqa: S105
_SPOT_ACTION = "/latest/meta-data/spot/instance-action"
_REBALANCE = "/latest/meta-data/events/recommendations/rebalance"
_LONGEST_BODY = 65_536

NoticeKind = Literal["spot", "rebalance", "signal", "host"]


@dataclass(frozen=True, slots=True)
class Notice:
    """Word that this machine will, or may, go away.

    Attributes:
        kind: who says so: EC2's spot service, EC2's rebalance recommendation, a signal to us, or a file from the host.
        action: what will be done: `terminate`, `stop`, `hibernate`, `rebalance`; empty where it is not known.
        deadline: when it will be done, in seconds since the epoch by the wall clock; None where it is not known. A
            time that has passed counts as not known: EC2 leaves the notice standing after an interruption that it
            gave up.
        detail: one line for the log.
    """

    kind: NoticeKind
    action: str
    deadline: float | None
    detail: str


class MetadataError(HoldfastError):
    """Instance metadata gave no usable answer. The message says what to do."""


class MetadataUnreachableError(MetadataError):
    """Nobody listens at the endpoint: not on EC2, on Fargate, or blocked by a firewall."""


class TokenHangsError(MetadataError):
    """The connection stands, and the answer to the token request never arrives: the hop limit swallows it."""


class MetadataRefusedError(MetadataError):
    """Instance metadata is switched off for this instance, or speaks no IMDSv2."""


class MetadataFaultError(MetadataError):
    """A 5xx, a time-out or a broken answer of metadata that otherwise works: the next poll may succeed."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    token_life: int | None
    """Seconds; None where the answer names none."""


class MetadataClient:
    """EC2's instance metadata, over one connection that is kept. For one thread at a time.

    Args:
        endpoint: `http://HOST[:PORT]`, as in `AWS_EC2_METADATA_SERVICE_ENDPOINT`.
        timeout: seconds to connect, and seconds to wait for each answer.
        clock: seconds since the epoch; the times in notices are compared with it.
        ticks: a monotonic clock in seconds, for the age of the token.

    Raises:
        ConfigError: the endpoint is no such address.
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
        # http.client goes straight to the host: metadata must never travel through HTTP_PROXY.
        self._connection = http.client.HTTPConnection(host, port, timeout=timeout)
        self._clock = clock
        self._ticks = ticks
        self._token = ""
        self._token_ends = -float("inf")

    def spot_action(self) -> Notice | None:
        """Return the interruption that EC2 has announced, or None. Raises MetadataError."""
        body = self._get(_SPOT_ACTION)
        return None if body is None else parse_action("spot", body, self._clock())

    def rebalance(self) -> Notice | None:
        """Return EC2's word that an interruption has become likely, or None. Raises MetadataError."""
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
        answer = self._ask("GET", path, {"X-aws-ec2-metadata-token": self._token})
        if answer.status == 401:  # forgotten before its time: a resumed hibernation, or options that were changed
            self._renew_token()
            answer = self._ask("GET", path, {"X-aws-ec2-metadata-token": self._token})
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise self._unusable(answer.status, f"GET {path}")
        return answer.body

    def _renew_token(self) -> None:
        asked = self._ticks()
        try:
            answer = self._ask("PUT", _TOKEN, {_TOKEN_LIFE: str(TOKEN_SECONDS)})
        except TimeoutError as error:
            raise TokenHangsError(
                f"instance metadata at {self._endpoint} accepts the connection and never answers the token request, "
                "which in a container is the hop limit: spot notices are not seen. Raise it with `aws ec2 "
                "modify-instance-metadata-options --instance-id ID --http-put-response-hop-limit 2`, or let the host "
                "drop a notice file (HOLDFAST_HOST_NOTICE_FILE)"
            ) from error
        token = answer.body.decode("latin-1").strip()
        if answer.status != 200 or not token.isprintable():  # what is not printable cannot be sent in a header
            raise self._unusable(answer.status, f"PUT {_TOKEN}")
        self._token = token
        # A tenth before its end, so that no poll meets an expired token.
        self._token_ends = asked + 0.9 * (answer.token_life or TOKEN_SECONDS)

    def _unusable(self, status: int, request: str) -> MetadataError:
        said = f"instance metadata at {self._endpoint} answered {status} to {request}"
        if status >= 500 or status == 429:
            return MetadataFaultError(f"{said}; it is asked again")
        return MetadataRefusedError(
            f"{said}, so it is switched off or speaks no IMDSv2: spot notices are not seen. Allow it with `aws ec2 "
            "modify-instance-metadata-options --instance-id ID --http-endpoint enabled`, or let the host drop a notice "
            "file (HOLDFAST_HOST_NOTICE_FILE)"
        )

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> _Answer:
        """Send one request. Raises TimeoutError when the answer to a PUT does not come, else MetadataError."""
        kept = self._connection.sock is not None
        if not kept:
            self._connect()
        try:
            return self._exchange(method, path, headers)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            if kept:  # closed by the other side since the last poll, as idle connections are
                return self._ask(method, path, headers)
            if isinstance(error, TimeoutError) and method == "PUT":
                raise
            raise MetadataFaultError(
                f"instance metadata at {self._endpoint} did not answer {method} {path} ({error!r}); it is asked again"
            ) from error

    def _connect(self) -> None:
        try:
            self._connection.connect()
        except OSError as error:  # refused, no route, no such name, a firewall that drops
            raise MetadataUnreachableError(
                f"there is no instance metadata at {self._endpoint} ({error}): spot notices are not seen. Let the host "
                "drop a notice file (HOLDFAST_HOST_NOTICE_FILE), or set AWS_EC2_METADATA_DISABLED=true"
            ) from error

    def _exchange(self, method: str, path: str, headers: dict[str, str]) -> _Answer:
        self._connection.request(method, path, headers=headers)
        response = self._connection.getresponse()
        body = response.read(_LONGEST_BODY)
        if not response.isclosed():  # more than any notice is long: what is left is not ours to read
            self._connection.close()
        life = response.getheader(_TOKEN_LIFE, "")
        return _Answer(response.status, body, int(life) if life.isascii() and life.isdigit() else None)


def parse_action(kind: NoticeKind, body: bytes, now: float) -> Notice:
    """Read the JSON of an instance-action (`action`, `time`).

    What cannot be read is a notice all the same, one of which nothing is known: to stop once too often costs a
    restart, to miss the notice costs the work.

    Args:
        kind: where it comes from.
        body: what was found there.
        now: seconds since the epoch.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        fields = {}
    action = _one_line(fields.get("action") or "")
    when = _seconds_since_epoch(fields.get("time"))
    said = f"{kind} notice {_one_line(body)!r}"
    if when is None:
        return Notice(kind, action, None, f"{said}: no time that can be read")
    if action == "hibernate":
        return Notice(kind, action, None, f"{said}: hibernation gives no two minutes")
    if when <= now:
        return Notice(kind, action, None, f"{said}: its time passed {now - when:.0f} s ago")
    return Notice(kind, action, when, f"{said}: in {when - now:.0f} s")


def _seconds_since_epoch(written: object) -> float | None:
    """Read an ISO 8601 time, UTC where it names no zone; None for anything else."""
    if not isinstance(written, str):
        return None
    try:
        when = datetime.fromisoformat(written)
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _host_and_port(endpoint: str) -> tuple[str, int]:
    try:
        parts = urlsplit(endpoint)
        if parts.scheme == "http" and parts.hostname:
            return parts.hostname, parts.port or 80
    except ValueError:  # a port or an IPv6 address that is none
        pass
    raise ConfigError(f"AWS_EC2_METADATA_SERVICE_ENDPOINT must be http://HOST or http://HOST:PORT; it is {endpoint!r}")


def _one_line(text: object) -> str:
    """Return text, or bytes, as one short line for the log."""
    whole = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    return " ".join(whole.split())[:200]
