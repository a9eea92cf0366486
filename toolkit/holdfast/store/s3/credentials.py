"""Find AWS credentials and region with botocore: profiles, roles of tasks and machines.

A botocore client would cost 200 ms of start and 15 MiB; only its credentials chain is used. With keys in the
environment this module is not loaded.
"""

from __future__ import annotations

import threading

from botocore.credentials import Credentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    MetadataRetrievalError,
)
from botocore.session import Session, get_session

from holdfast.errors import AccessDeniedError, StoreError, TransientStoreError
from holdfast.store.s3.settings import StaticKeys

# As botocore defines it, but three attempts instead of one: a role must not go missing because a busy machine is slow.
_METADATA_ATTEMPTS = ("metadata_service_num_attempts", "AWS_METADATA_SERVICE_NUM_ATTEMPTS", 3, int)


class CredentialChain:
    """The credentials that botocore finds on this machine, and refreshes. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._credentials: Credentials | None = None

    def region(self) -> str | None:
        """Return the region that the AWS configuration names; None when it names none."""
        try:
            with self._lock:
                found = _session().get_config_variable("region")
        except BotoCoreError as error:
            raise _credentials_error(error) from error
        return str(found) if found else None

    def keys(self) -> StaticKeys:
        """Return the credentials that are valid now.

        Raises:
            AccessDeniedError: there are none, or those found cannot be used.
            TransientStoreError: the source of the credentials did not answer.
        """
        try:
            with self._lock:
                credentials = self._credentials = self._credentials or _find()
            now = credentials.get_frozen_credentials()
            return StaticKeys(str(now.access_key), str(now.secret_key), now.token)
        except (BotoCoreError, ClientError, ValueError) as error:
            raise _credentials_error(error) from error

    def renew(self) -> None:
        """Forget the credentials: the next request asks the chain again."""
        with self._lock:
            self._credentials = None


def _session() -> Session:
    """Return a session of botocore, which reads AWS's variables and files."""
    return get_session({"metadata_service_num_attempts": _METADATA_ATTEMPTS})


def _find() -> Credentials:
    found: Credentials | None = _session().get_credentials()
    if found is None:
        raise AccessDeniedError(
            "no AWS credentials were found: give the machine, task or pod a role, or set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE (in a container on EC2 the metadata hop limit must be 2)"
        )
    return found


def _credentials_error(error: Exception) -> StoreError:
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        return AccessDeniedError(f"AWS refused to issue credentials ({code}): check the role and its trust policy")
    if isinstance(error, CredentialRetrievalError | MetadataRetrievalError | HTTPClientError):
        return TransientStoreError(f"the AWS credentials could not be fetched ({error})")
    return AccessDeniedError(
        f"the AWS credentials cannot be used ({error}): check AWS_PROFILE and the AWS configuration"
    )
