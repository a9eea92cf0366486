"""Opening the store of a location: the one place where the data plane reads the environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from holdfast.directory import DirectoryStore
from holdfast.errors import ConfigError
from holdfast.location import Location
from holdfast.retry import RetryingStore
from holdfast.store import Store


def open_store(
    place: Location, environ: Mapping[str, str], *, should_stop: Callable[[], bool] = lambda: False
) -> Store:
    """Open a store that repeats what may succeed in a moment.

    Args:
        place: where.
        environ: the endpoint (`AWS_ENDPOINT_URL_S3`, `S3_ENDPOINT_URL`, `AWS_ENDPOINT_URL`), the region (`AWS_REGION`,
            `AWS_DEFAULT_REGION`) and the certificates (`AWS_CA_BUNDLE`, `SSL_CERT_FILE`); credentials come from the AWS chain.
        should_stop: when it says yes, nothing is repeated any more.

    Raises:
        ConfigError: the endpoint is no URL.
        AccessDeniedError: there are no credentials.
        NoBucketError: there is no such bucket or directory.
        StoreError: it cannot be reached.
    """
    if place.scheme == "file":
        store: Store = RetryingStore(DirectoryStore(Path(place.prefix)), should_stop=should_stop)
    else:
        store = RetryingStore(_s3(place, environ), should_stop=should_stop)
    store.check()
    return store


def _s3(place: Location, environ: Mapping[str, str]) -> Store:
    # Imported here, because it costs 150 ms that a file:// store and a supervised script without a store need not pay.
    import botocore.session  # noqa: PLC0415

    from holdfast.s3 import S3Store  # noqa: PLC0415
    from holdfast.s3_wire import S3Settings, Wire  # noqa: PLC0415

    endpoint = next(
        (environ[name] for name in ("AWS_ENDPOINT_URL_S3", "S3_ENDPOINT_URL", "AWS_ENDPOINT_URL") if environ.get(name)),
        None,
    )
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise ConfigError(f"AWS_ENDPOINT_URL_S3 must be http://HOST[:PORT] or https://HOST[:PORT]; it is {endpoint!r}")
    session = botocore.session.get_session()
    region = (
        environ.get("AWS_REGION")
        or environ.get("AWS_DEFAULT_REGION")
        or session.get_config_variable("region")
        or "us-east-1"
    )
    ca_bundle = environ.get("AWS_CA_BUNDLE") or environ.get("SSL_CERT_FILE") or None
    return S3Store(Wire(S3Settings(place.bucket, region, endpoint, ca_bundle), session), place.prefix)
