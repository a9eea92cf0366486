"""Requests are signed with the credentials that are valid at that moment."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from holdfast.s3_settings import S3Settings
from holdfast.s3_signature import Scribe

if TYPE_CHECKING:
    from holdfast.s3_chain import Chain

_DEFAULT_REGION = "us-east-1"


class Signer:
    """Signs requests. Safe to use from several threads. Nothing is looked up before the first request."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._opened: Chain | None = None
        self._ahead = timedelta()
        self._scribe = Scribe()

    def region(self) -> str:
        """Return the region to begin with. Errors as `sign`."""
        if self._settings.region or self._settings.keys:
            return self._settings.region or _DEFAULT_REGION
        return self._chain().region() or _DEFAULT_REGION

    def sign(self, method: str, host: str, target: str, headers: Mapping[str, str], region: str) -> dict[str, str]:
        """Return the headers of a request with its signature.

        The body is not hashed again with SHA-256 (0.6 s of CPU per GiB): its CRC64NVME is a signed header.

        Args:
            method: GET, PUT, …
            host: name, and port where it is not the usual one.
            target: path and query, percent-encoded as they will be sent; the query is in order.
            headers: what the request carries.
            region: of the bucket.

        Raises:
            AccessDeniedError: there are no credentials, or those found cannot be used.
            TransientStoreError: the place that gives them out did not answer.
        """
        moment = datetime.now(UTC) + self._ahead
        keys = self._settings.keys or self._chain().keys()
        return self._scribe.sign(method, host, target, headers, keys=keys, region=region, moment=moment)

    def renew(self) -> None:
        """Forget the credentials: the next request asks the chain again."""
        if self._opened is not None:
            self._opened.renew()

    def set_clock(self, server: datetime) -> None:
        """Sign from now on by the server's clock: S3 refuses what was signed 15 minutes before or after its own."""
        self._ahead = server - datetime.now(UTC)

    def _chain(self) -> Chain:
        with self._lock:
            if self._opened is None:
                from holdfast.s3_chain import Chain  # noqa: PLC0415  70 ms that keys in the environment do without

                self._opened = Chain()
            return self._opened
