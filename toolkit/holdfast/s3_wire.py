"""Signed requests to one bucket: endpoint, credentials, connection, and what an answer means."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass
from xml.etree import ElementTree as Xml

import botocore.session
import urllib3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from urllib3.exceptions import HTTPError

from holdfast.body import PIECE
from holdfast.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    NoBucketError,
    NotFoundError,
    PermanentStoreError,
    StoreError,
    TransientStoreError,
)

CONNECTIONS = 16
_DNS_NAME = re.compile(r"[a-z0-9-]+")
_UNSAFE_IN_URL = "-._~"
_TRANSIENT_STATUS = frozenset({408, 429, 500, 502, 503, 504})
_TRANSIENT_CODES = frozenset(
    {
        "ConditionalRequestConflict",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "ThrottlingException",
        "ExpiredToken",  # the credentials refresh themselves; a repetition is signed with the new ones
    }
)


@dataclass(frozen=True, slots=True)
class S3Settings:
    """Where a bucket is, and how to get there.

    Attributes:
        bucket: its name.
        region: to sign for.
        endpoint: of an S3-compatible server; None: AWS.
        ca_bundle: file of the certificates to trust; None: the system's.
        connect_timeout: seconds.
        read_timeout: seconds without a byte.
    """

    bucket: str
    region: str
    endpoint: str | None
    ca_bundle: str | None
    connect_timeout: float = 5.0
    read_timeout: float = 60.0


class Wire:
    """Sends signed requests to one bucket. Safe to use from several threads."""

    def __init__(self, settings: S3Settings, session: botocore.session.Session) -> None:
        """Connect to nothing yet.

        Raises:
            AccessDeniedError: there are no credentials.
        """
        self._settings = settings
        self._region = settings.region
        self._pool = _pool(settings)
        try:
            self._credentials = session.get_credentials()
        except BotoCoreError as error:
            raise AccessDeniedError(f"the AWS credentials cannot be read: {error}") from error
        if self._credentials is None:
            raise AccessDeniedError(
                "no AWS credentials were found: give the instance or task a role, or set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            )

    @property
    def place(self) -> str:
        """The bucket and where it is, for messages."""
        return f"bucket {self._settings.bucket!r} at {self._settings.endpoint or f'AWS, {self._region}'}"

    def request(
        self,
        method: str,
        key: str = "",
        *,
        action: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterator[memoryview] | None = None,
    ) -> bytes:
        """Send a request and return the whole body of the answer, for requests whose answers are small.

        Args:
            method: GET, HEAD, PUT, POST, DELETE.
            key: of the object; empty for the bucket itself.
            action: the IAM permission that is needed, for the message when it is missing.
            query: parameters; a value of "" is sent as `name=`.
            headers: beside those that the signature needs.
            body: bytes, or pieces of them with a Content-Length among the headers.

        Raises:
            StoreError: the answer is an error, or there is none.
        """
        return self.exchange(method, key, action=action, query=query, headers=headers, body=body)[1]

    def exchange(
        self,
        method: str,
        key: str = "",
        *,
        action: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterator[memoryview] | None = None,
    ) -> tuple[Mapping[str, str], bytes]:
        """As `request`, with the headers of the answer."""
        response = self._send(method, key, action, query or {}, headers or {}, body)
        try:
            data = response.read()
        except (HTTPError, OSError) as error:
            raise self._unanswered(error) from error
        finally:
            response.release_conn()
        return response.headers, data

    def stream(self, key: str, *, headers: Mapping[str, str]) -> Iterator[memoryview]:
        """Yield the body of an object in pieces; each is valid until the next one.

        Raises:
            StoreError: the answer is an error, or it broke off.
        """
        response = self._send("GET", key, "s3:GetObject", {}, headers, None)
        expected = int(response.headers.get("Content-Length", "-1"))
        received = 0
        try:
            while piece := response.read(PIECE, decode_content=False):
                received += len(piece)
                yield memoryview(piece)
        except (HTTPError, OSError) as error:
            raise self._unanswered(error) from error
        finally:
            if received == expected:
                response.release_conn()
            else:
                response.close()
        if 0 <= received < expected:
            raise TransientStoreError(f"{self.place}: the answer broke off after {received:,} of {expected:,} bytes")

    def _send(
        self,
        method: str,
        key: str,
        action: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes | Iterator[memoryview] | None,
    ) -> urllib3.BaseHTTPResponse:
        response = self._signed(method, key, query, headers, body)
        if response.status < 300:
            return response
        data = b""
        try:
            data = response.read()
        except (HTTPError, OSError):
            response.close()
        region = response.headers.get("x-amz-bucket-region")
        if region and region != self._region and self._settings.endpoint is None and not isinstance(body, Iterator):
            self._region = region
            return self._send(method, key, action, query, headers, body)
        raise self._meaning(response.status, data, method, key, action)

    def _signed(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes | Iterator[memoryview] | None,
    ) -> urllib3.BaseHTTPResponse:
        url = self._url(key)
        if query:
            url += "?" + "&".join(
                f"{quote(k, safe=_UNSAFE_IN_URL)}={quote(v, safe=_UNSAFE_IN_URL)}" for k, v in query.items()
            )
        unsigned = AWSRequest(method=method, url=url, headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD", **headers})
        try:
            S3SigV4Auth(self._credentials.get_frozen_credentials(), "s3", self._region).add_auth(unsigned)
        except BotoCoreError as error:
            raise TransientStoreError(f"the AWS credentials cannot be refreshed: {error}") from error
        try:
            return self._pool.request(
                method,
                url,
                body=body,
                headers=dict(unsigned.headers.items()),
                preload_content=False,
                redirect=False,
                retries=False,
                timeout=urllib3.Timeout(connect=self._settings.connect_timeout, read=self._settings.read_timeout),
            )
        except (HTTPError, OSError) as error:
            raise self._unanswered(error) from error

    def _url(self, key: str) -> str:
        settings = self._settings
        path = quote(key.encode("utf-8", "surrogateescape"), safe=f"/{_UNSAFE_IN_URL}")
        if settings.endpoint is not None:
            return f"{settings.endpoint.rstrip('/')}/{settings.bucket}/{path}"
        suffix = "amazonaws.com.cn" if self._region.startswith("cn-") else "amazonaws.com"
        if _DNS_NAME.fullmatch(settings.bucket):
            return f"https://{settings.bucket}.s3.{self._region}.{suffix}/{path}"
        return f"https://s3.{self._region}.{suffix}/{settings.bucket}/{path}"

    def _unanswered(self, error: Exception) -> StoreError:
        host = urlsplit(self._url("")).netloc.rpartition("@")[2]
        return TransientStoreError(
            f"{self.place}: no answer from {host} ({type(error).__name__}: {error}); check the endpoint, the network and "
            "the proxy settings"
        )

    def _meaning(self, status: int, data: bytes, method: str, key: str, action: str) -> StoreError:
        """Return what an error answer means, and what to do about it."""
        code, message = _code_and_message(data)
        what = f"{self.place}: {method} {key!r}: {status} {code or ''} {message}".rstrip()
        if code in _TRANSIENT_CODES or status in _TRANSIENT_STATUS:
            return TransientStoreError(what)
        if code == "NoSuchBucket" or (status == 404 and not key):
            return NoBucketError(f"{self.place} does not exist: create it, or correct the URI")
        if status == 404:
            return NotFoundError(f"{self.place}: there is no object {key!r}")
        if status in (409, 412):
            return AlreadyExistsError(f"{self.place}: {key!r} is taken") if status == 412 else TransientStoreError(what)
        if code == "RequestTimeTooSkewed":
            return AccessDeniedError(f"{what}: the clock of this machine is wrong: set it (chrony, timedatectl)")
        if status in (401, 403) or code in ("InvalidAccessKeyId", "SignatureDoesNotMatch"):
            return AccessDeniedError(f"{what}: allow {action} on it, and check which credentials are used")
        if status == 416:
            return NotFoundError(f"{what}: the object is shorter than it should be")
        if status in (301, 307):
            return PermanentStoreError(f"{what}: it lies in another region: set AWS_REGION")
        return PermanentStoreError(what)


def parse(data: bytes) -> Xml.Element:
    """Parse an XML answer; tags come without their namespace.

    Raises:
        TransientStoreError: it is no XML.
    """
    try:
        root = Xml.fromstring(data)  # noqa: S314  from the server that also holds the data; expat bounds entity expansion
    except Xml.ParseError as error:
        raise TransientStoreError(f"the store's answer is no XML: {error}") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _code_and_message(data: bytes) -> tuple[str | None, str]:
    try:
        root = parse(data)
    except TransientStoreError:
        return None, ""
    return root.findtext("Code"), root.findtext("Message") or ""


def _pool(settings: S3Settings) -> urllib3.PoolManager:
    options: dict[str, Any] = {
        "maxsize": CONNECTIONS,
        "block": False,
        "blocksize": PIECE,
        "ca_certs": settings.ca_bundle,
    }
    target = urlsplit(settings.endpoint or f"https://{settings.bucket}.s3.{settings.region}.amazonaws.com")
    proxy = getproxies().get(target.scheme)
    if proxy and not proxy_bypass(target.netloc):
        return urllib3.ProxyManager(proxy, **options)
    return urllib3.PoolManager(**options)
