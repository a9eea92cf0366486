"""Turn errors of an S3 server, and of connections to it, into StoreErrors with advice."""

from __future__ import annotations

import errno
import ssl
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
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
from holdfast.store.s3.messages import Request, parse_xml, text_of

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
    """The server received bytes with another checksum."""


class NoUploadError(NotFoundError):
    """There is no such multipart upload: it was completed or aborted."""


class StrangeAnswerError(TransientStoreError):
    """A success whose body is not the XML that S3 sends, of a server that has stored an object."""


_ADVICE = {
    **dict.fromkeys(_CLOCK, "; this machine's clock is wrong: set it (NTP), then run again"),
    **dict.fromkeys(_EXPIRED, "; the session token has expired: provide credentials that are valid"),
}
_FOREIGN_ADVICE = "; that answer is not from S3: check the endpoint, the load balancer and the proxy variables"
_KIND_OF_STATUS: dict[int, type[StoreError]] = {
    401: AccessDeniedError,
    403: AccessDeniedError,
    404: NotFoundError,
    412: AlreadyExistsError,
    416: BeyondEndError,
    **dict.fromkeys((307, 408, 409, 429, 500, 502, 503, 504), TransientStoreError),
}


_KIND_OF_CODE: dict[str, type[StoreError]] = {
    "NoSuchBucket": NoBucketError,
    "NoSuchUpload": NoUploadError,
    "BadDigest": BadDigestError,
    **dict.fromkeys(_DENIED | _EXPIRED | _CLOCK, AccessDeniedError),
    **dict.fromkeys(_TRANSIENT, TransientStoreError),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that is not a success.

    Attributes:
        code: S3's error code; empty when there is none.
        message: S3's message, shortened. Nothing else of the answer is kept: it may repeat what was signed.
        region: of the bucket, when the answer names it.
        foreign: whether the answer is not from S3 but, for example, the page of a proxy.
    """

    status: int
    code: str
    message: str
    region: str | None
    _: KW_ONLY
    foreign: bool = False
    date: datetime | None = None

    @property
    def is_expiry(self) -> bool:
        """Whether other credentials may help. The answer to a HEAD has no code: for an old token it is 400."""
        return self.code in _EXPIRED or (self.status == HTTPStatus.BAD_REQUEST and not self.code)

    def is_skew(self, now: datetime) -> bool:
        """Whether the server finds the time of the signature wrong. The answer to a HEAD is only 403 and a date."""
        if self.date is None:
            return False
        without_code = self.status == HTTPStatus.FORBIDDEN and not self.code and abs(self.date - now) > _MOST_SKEW
        return self.code in _CLOCK or without_code

    def as_error(self, request: Request, bucket: str, origin: str) -> StoreError:
        """Return the error to raise for a request to a bucket at an origin (scheme, host and port)."""
        details = ": ".join(text for text in (self.code, self.message) if text)
        failed = f"{request.doing} failed: HTTP {self.status}" + (f" ({details})" if details else "")
        kind = self._kind()
        return kind(failed + self._advice(kind, request.permission, bucket, origin))

    def _kind(self) -> type[StoreError]:
        if self.code in _KIND_OF_CODE:
            return _KIND_OF_CODE[self.code]
        if self.foreign and self.status == HTTPStatus.NOT_FOUND:
            return TransientStoreError  # only S3 knows which objects are missing
        return _KIND_OF_STATUS.get(self.status, PermanentStoreError)

    def _advice(self, kind: type[StoreError], permission: str, bucket: str, origin: str) -> str:
        """Return the advice for the operator, empty for none."""
        if kind is NoBucketError:
            return f"; there is no bucket {bucket!r} at {origin}: create it, or correct the URI"
        advice = _FOREIGN_ADVICE if self.foreign else _ADVICE.get(self.code)
        if advice:
            return advice
        if kind is AccessDeniedError:
            return (
                f"; the credentials need {permission} on bucket {bucket!r}: "
                "check the role's policy, the bucket's policy and the keys"
            )
        about_checksums = kind is PermanentStoreError and "checksum" in f"{self.code} {self.message}".lower()
        if about_checksums or self.status == HTTPStatus.NOT_IMPLEMENTED:
            return "; holdfast needs a server that supports CRC64NVME checksums, and this one does not"
        if kind is PermanentStoreError and 300 <= self.status < 400:
            return f"; bucket {bucket!r} is in another region: set AWS_REGION or the endpoint"
        return ""


def read_problem(status: int, headers: Mapping[str, str], body: bytes) -> Problem:
    """Read an answer that is not a success, or an error in the body of one with status 200."""
    region = headers.get("x-amz-bucket-region")
    code = message = ""
    try:
        root = parse_xml(body) if body.strip() else None
    except TransientStoreError:
        root = None  # the page of a proxy or load balancer: the status is enough
    foreign = bool(body.strip()) and (root is None or root.tag != "Error")
    if root is not None and not foreign:
        code, message = text_of(root, "Code"), text_of(root, "Message")
        region = region or text_of(root, "Region") or None
    return Problem(
        status, code, " ".join(message.split())[:_MESSAGE_CHARACTERS], region, foreign=foreign, date=_date(headers)
    )


def _date(headers: Mapping[str, str]) -> datetime | None:
    try:
        return parsedate_to_datetime(headers["date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return None


def problem_in_success(root: ET.Element) -> Problem | None:
    """Return the error that S3 may send with status 200 once a long answer has begun, else None."""
    if root.tag != "Error":
        return None
    code = text_of(root, "Code")
    status = {"PreconditionFailed": 412, "NoSuchKey": 404, "NoSuchUpload": 404, "AccessDenied": 403}.get(code, 400)
    return Problem(500 if code == "InternalError" else status, code, text_of(root, "Message"), None)


def from_connection(error: HTTPError | BrokenError, where: str) -> StoreError:
    """Return the StoreError for a failed connection; `where` is the beginning of its message."""
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
            f"{where} has a certificate that is not trusted ({cause.verify_message}): "
            "set AWS_CA_BUNDLE to the file with its authority's certificate"
        )
    return TransientStoreError(f"{where}: TLS broke ({cause})")


def _innermost(error: Exception) -> Exception:
    """Return the first cause: urllib3 wraps the operating system's error in text about its own objects."""
    while True:
        inner = error.__cause__ or next((arg for arg in reversed(error.args) if isinstance(arg, Exception)), None)
        if not isinstance(inner, Exception):
            return error
        error = inner


def _short(error: Exception) -> str:
    error = _innermost(error)
    if isinstance(error, BlockingIOError):
        return "timed out"  # the kernel's text would be "Resource temporarily unavailable"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, BrokenError):
        return str(error)
    return type(error).__name__ if isinstance(error, HTTPError) else f"{type(error).__name__}: {error}"
