"""Open the store of a location."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from holdfast.stop import NEVER, StopToken
from holdfast.store import Store
from holdfast.store.backoff import RetryPolicy
from holdfast.store.location import Location
from holdfast.store.retry import RetryingStore
from holdfast.workers.concurrency import Concurrency


def open_store(
    place: Location,
    environ: Mapping[str, str],
    *,
    policy: RetryPolicy | None = None,
    stop: StopToken = NEVER,
    allow: Callable[[int], int] = lambda wanted: wanted,
    concurrency: Concurrency | None = None,
) -> Store:
    """Open the store of a location. No request is made before the first one of the caller.

    Args:
        environ: environment with endpoint, region, proxies, trusted certificates and keys. botocore reads the other
            sources of the AWS credentials chain (profiles, roles of tasks and machines) by itself.
        policy: how often and how long requests are repeated; None for the default.
        stop: ends the retries, and shortens the read timeout before that.
        allow: called before bytes of a file are sent to S3; returns how many may go, possibly after a wait.
        concurrency: measures the requests to S3.

    Raises:
        ConfigError: the environment names an endpoint or certificates that cannot be used.
    """
    if place.scheme == "file":
        from holdfast.store.directory.store import DirectoryStore  # noqa: PLC0415  as below

        return RetryingStore(DirectoryStore(Path(place.prefix)), policy, stop=stop)
    # Only a location on S3 pays for botocore: 100 ms and 20 MiB.
    from holdfast.store.s3.settings import from_environ  # noqa: PLC0415
    from holdfast.store.s3.store import S3Store  # noqa: PLC0415

    bare = S3Store(place, from_environ(environ), stop=stop, allow=allow, concurrency=concurrency)
    return RetryingStore(bare, policy, stop=stop)
