"""Credentials, by botocore: the whole AWS credentials chain, without a botocore client; and requests signed with them.

A client would cost 200 ms of start and 15 MiB; the chain is what holdfast needs of it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.credentials import Credentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    MetadataRetrievalError,
)

from holdfast.errors import AccessDeniedError, StoreError, TransientStoreError
from holdfast.s3_settings import S3Settings, StaticKeys
from holdfast.s3_signature import Scribe

if TYPE_CHECKING:
    from botocore.session import Session


# As botocore defines it, but three attempts instead of one: a role must not go missing because a busy machine is slow.
_METADATA_ATTEMPTS = ("metadata_service_num_attempts", "AWS_METADATA_SERVICE_NUM_ATTEMPTS", 3, int)
_DEFAULT_REGION = "us-east-1"


class Signer:
    """Signs requests with the credentials that are valid at that moment.

    Nothing is looked up before the first request; the credentials are refreshed by botocore when they are about to end.
    """

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._credentials: Credentials | None = None
        self._ahead = timedelta()
        self._scribe = Scribe()

    def region(self) -> str:
        """Return the region to begin with."""
        if self._settings.region or self._settings.keys:
            return self._settings.region or _DEFAULT_REGION
        try:
            with self._lock:
                found = self._open_session().get_config_variable("region")
        except BotoCoreError as error:
            raise _credentials_error(error) from error
        return str(found or _DEFAULT_REGION)

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
        return self._scribe.sign(method, host, target, headers, keys=self._frozen(), region=region, moment=moment)

    def renew(self) -> None:
        """Forget the credentials: the next request asks the chain again."""
        with self._lock:
            self._credentials = self._session = None

    def set_clock(self, server: datetime) -> None:
        """Sign from now on by the server's clock: S3 refuses what was signed 15 minutes before or after its own."""
        self._ahead = server - datetime.now(UTC)

    def _frozen(self) -> StaticKeys:
        try:
            with self._lock:
                if self._credentials is None:
                    self._credentials = self._find()
                credentials = self._credentials
            now = credentials.get_frozen_credentials()
            return StaticKeys(str(now.access_key), str(now.secret_key), now.token)
        except (BotoCoreError, ClientError, ValueError) as error:
            raise _credentials_error(error) from error

    def _find(self) -> Credentials:
        keys = self._settings.keys
        if keys is not None:
            return Credentials(keys.access_key, keys.secret_key, keys.token)
        found: Any = self._open_session().get_credentials()
        if found is None:
            raise AccessDeniedError(
                "no AWS credentials were found: give the machine, task or pod a role, or set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE (in a container on EC2 the metadata hop limit must be 2)"
            )
        credentials: Credentials = found
        return credentials

    def _open_session(self) -> Session:
        """Return botocore's session, which reads AWS's own variables and files; called with the lock held."""
        if self._session is None:
            from botocore.session import get_session  # noqa: PLC0415 - 30 ms that keys in the environment do without

            self._session = get_session({"metadata_service_num_attempts": _METADATA_ATTEMPTS})
        return self._session


def _credentials_error(error: Exception) -> StoreError:
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        return AccessDeniedError(f"AWS refused to give out credentials ({code}): check the role and who may assume it")
    if isinstance(error, CredentialRetrievalError | MetadataRetrievalError | HTTPClientError):
        return TransientStoreError(f"the AWS credentials could not be fetched ({error})")
    return AccessDeniedError(
        f"the AWS credentials cannot be used ({error}): check AWS_PROFILE and the AWS configuration"
    )
