"""What an S3 server, or the way to it, says when something went wrong, as errors that tell the operator what to do."""

from __future__ import annotations

import errno
import ssl
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from urllib3.exceptions import HTTPError, NameResolutionError, NewConnectionError, ProxyError, SSLError
from urllib3.exceptions import TimeoutError as ConnectionTimeoutError

from holdfast.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    NoBucketError,
    NotFoundError,
    PermanentStoreError,
    StoreError,
    TransientStoreError,
)
from holdfast.store.s3.http11 import BrokenError
from holdfast.store.s3.messages import parse_xml, text_of

# docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_DENIED = {
    "AccessDenied", "AccountProblem", "AllAccessDisabled", "InvalidAccessKeyId", "InvalidSecurity", "InvalidToken",
    "NotSignedUp", "SignatureDoesNotMatch",
}  # fmt: skip
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_TRANSIENT = {
    "ConditionalRequestConflict", "EC2ThrottledException", "IncompleteBody", "InternalError",
    "OperationAborted", "RequestLimitExceeded", "RequestTimeout", "RequestTimeoutException", "ServiceUnavailable",
    "SlowDown", "TemporaryRedirect", "Throttling", "ThrottlingException", "TooManyRequests",
    "XAmzContentChecksumMismatch",
}  # fmt: skip
_CLOCK = {"RequestTimeTooSkewed"}
_MESSAGE_CHARACTERS = 300
_MOST_SKEW = timedelta(minutes=15)  # what S3 allows


class BeyondEndError(TransientStoreError):
    """The object has no bytes where the range begins (HTTP 416)."""


class BadDigestError(TransientStoreError):
    """The server got other bytes than the checksum says."""


class NoUploadError(NotFoundError):
    """There is no such multipart upload: it was completed or aborted."""


class StrangeAnswerError(TransientStoreError):
    """A success whose body is not the XML that S3 sends, of a server that has stored something."""


_ADVICE = {
    **dict.fromkeys(_CLOCK, "; this machine's clock is wrong: set it (NTP), then run again"),
    **dict.fromkeys(_EXPIRED, "; the session token has expired: provide credentials that are valid"),
}
_FOREIGN_ADVICE = "; that answer is not S3's: check the endpoint, the load balancer and the proxy variables"
_KIND_OF_STATUS: dict[int, type[StoreError]] = {
    401: AccessDeniedError,
    403: AccessDeniedError,
    404: NotFoundError,
    412: AlreadyExistsError,
    416: BeyondEndError,
    **dict.fromkeys((307, 408, 409, 429, 500, 502, 503, 504), TransientStoreError),
}


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a request is for: the words for its errors.

    Attributes:
        doing: "storing 'a/b'": what was being done.
        permission: the IAM permission that it takes.
        bucket: where.
        origin: scheme, host and port that the request went to.
    """

    doing: str
    permission: str
    bucket: str
    origin: str


_KIND_OF_CODE: dict[str, type[StoreError]] = {
    "NoSuchBucket": NoBucketError,
    "NoSuchUpload": NoUploadError,
    "BadDigest": BadDigestError,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that is no success.

    Attributes:
        status: of HTTP.
        code: S3's word for it; empty when it said none.
        message: S3's sentence, shortened; nothing else of the answer is kept, for it may repeat what was signed.
        region: where the bucket is, when the answer says so.
        foreign: whether somebody in between has answered, with a page of his own.
        date: the server's clock.
    """

    status: int
    code: str
    message: str
    region: str | None
    foreign: bool = False
    date: datetime | None = None

    @property
    def is_expiry(self) -> bool:
        """Whether other credentials may help. A HEAD has no body to say so: 400 is what it gets for an old token."""
        return self.code in _EXPIRED or (self.status == HTTPStatus.BAD_REQUEST and not self.code)

    def is_skew(self, now: datetime) -> bool:
        """Whether the server finds the hour of the signature wrong. To a HEAD it can only say 403 and its own hour."""
        if self.date is None:
            return False
        silent = self.status == HTTPStatus.FORBIDDEN and not self.code and abs(self.date - now) > _MOST_SKEW
        return self.code in _CLOCK or silent

    def as_error(self, purpose: Purpose) -> StoreError:
        """Return the error to raise."""
        said = ": ".join(text for text in (self.code, self.message) if text)
        failed = f"{purpose.doing} failed: HTTP {self.status}" + (f" ({said})" if said else "")
        kind = self._kind()
        return kind(failed + self._advice(kind, purpose))

    def _kind(self) -> type[StoreError]:
        if self.code in _KIND_OF_CODE:
            return _KIND_OF_CODE[self.code]
        if self.code in _DENIED | _EXPIRED | _CLOCK:
            return AccessDeniedError
        if self.code in _TRANSIENT:
            return TransientStoreError
        if self.foreign and self.status == HTTPStatus.NOT_FOUND:
            return TransientStoreError  # what is not there, only S3 can say
        return _KIND_OF_STATUS.get(self.status, PermanentStoreError)

    def _advice(self, kind: type[StoreError], purpose: Purpose) -> str:
        """Return what the operator should do about it."""
        if kind is NoBucketError:
            return f"; there is no bucket {purpose.bucket!r} at {purpose.origin}: create it, or correct the URI"
        known = _FOREIGN_ADVICE if self.foreign else _ADVICE.get(self.code)
        if known:
            return known
        if kind is AccessDeniedError:
            return (
                f"; the credentials need {purpose.permission} on bucket {purpose.bucket!r}: "
                "check the role's policy, the bucket's policy and the keys"
            )
        if self._is_about_checksums():
            return "; holdfast needs a server that takes CRC64NVME checksums, and this one does not"
        if kind is PermanentStoreError and 300 <= self.status < 400:
            return f"; bucket {purpose.bucket!r} is elsewhere: set AWS_REGION or the endpoint"
        return ""

    def _is_about_checksums(self) -> bool:
        about = "checksum" in f"{self.code} {self.message}".lower()
        return self.status == HTTPStatus.NOT_IMPLEMENTED or (self._kind() is PermanentStoreError and about)


def read_problem(status: int, headers: Mapping[str, str], body: bytes) -> Problem:
    """Read an answer that is no success, or an error in the body of one that claims to be."""
    region = headers.get("x-amz-bucket-region")
    code = message = ""
    try:
        root = parse_xml(body) if body.strip() else None
    except TransientStoreError:
        root = None  # a proxy's or load balancer's page: the status says enough
    foreign = bool(body.strip()) and (root is None or root.tag != "Error")
    if root is not None and not foreign:
        code, message = text_of(root, "Code"), text_of(root, "Message")
        region = region or text_of(root, "Region") or None
    return Problem(status, code, " ".join(message.split())[:_MESSAGE_CHARACTERS], region, foreign, _date(headers))


def _date(headers: Mapping[str, str]) -> datetime | None:
    try:
        return parsedate_to_datetime(headers["date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return None


def problem_in_success(root: ET.Element) -> Problem | None:
    """Return the error that S3 may send with status 200 once it has begun to answer a long request, else None."""
    if root.tag != "Error":
        return None
    code = text_of(root, "Code")
    status = {"PreconditionFailed": 412, "NoSuchKey": 404, "NoSuchUpload": 404, "AccessDenied": 403}.get(code, 400)
    return Problem(500 if code == "InternalError" else status, code, text_of(root, "Message"), None)


def from_connection(error: HTTPError | BrokenError, purpose: Purpose) -> StoreError:
    """Return what a failure on the way to the server means."""
    where = f"{purpose.doing} failed: {purpose.origin}"
    if isinstance(error, SSLError):
        return _from_tls(error, where)
    if isinstance(error, ProxyError):
        return TransientStoreError(f"{where} cannot be reached through the proxy: check HTTPS_PROXY and NO_PROXY")
    if getattr(_innermost(error), "errno", None) in (errno.EMFILE, errno.ENFILE):
        return TransientStoreError(f"{where} cannot be asked ({_short(error)}): raise the limit of open files")
    if isinstance(error, NameResolutionError):
        return TransientStoreError(f"{where} has no address: check the endpoint, the region and this machine's DNS")
    timed_out = isinstance(_innermost(error), TimeoutError | BlockingIOError)
    if timed_out or isinstance(error, NewConnectionError | ConnectionTimeoutError):
        return TransientStoreError(
            f"{where} does not answer ({_short(error)}): check the endpoint, the network (route, security group, VPC "
            "endpoint) and the proxy variables"
        )
    return TransientStoreError(f"{where}: the connection broke ({_short(error)})")


def _from_tls(error: SSLError, where: str) -> StoreError:
    cause = error.args[0] if error.args else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return PermanentStoreError(
            f"{where} shows a certificate that is not trusted ({cause.verify_message}): "
            "set AWS_CA_BUNDLE to the file with its authority's certificate"
        )
    return TransientStoreError(f"{where}: TLS broke ({cause})")


def _innermost(error: Exception) -> Exception:
    """Return the first reason: urllib3 wraps an operating system's error in words about its own objects."""
    while True:
        inner = error.__cause__ or next((arg for arg in reversed(error.args) if isinstance(arg, Exception)), None)
        if not isinstance(inner, Exception):
            return error
        error = inner


def _short(error: Exception) -> str:
    error = _innermost(error)
    if isinstance(error, BlockingIOError):
        return "timed out"  # in the kernel's words: a resource is not available just now
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, BrokenError):
        return str(error)
    return type(error).__name__ if isinstance(error, HTTPError) else f"{type(error).__name__}: {error}"
