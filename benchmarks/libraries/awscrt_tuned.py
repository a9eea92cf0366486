"""The S3 client of the AWS Common Runtime: four event loops, parts of 16 MiB, from the file and into the file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from threading import Semaphore
from urllib.parse import quote, urlsplit

import boto3
from awscrt.auth import AwsCredentialsProvider
from awscrt.http import HttpHeaders, HttpRequest
from awscrt.io import (
    ClientBootstrap,
    ClientTlsContext,
    DefaultHostResolver,
    EventLoopGroup,
    TlsConnectionOptions,
    TlsContextOptions,
)
from awscrt.s3 import S3Client, S3RequestTlsMode, S3RequestType, create_default_s3_signing_config

from benchmarks.libraries.place import PART, Place

AT_ONCE = 64  # files


def _client(place: Place) -> S3Client:
    loops = EventLoopGroup(4)
    region = os.environ["AWS_REGION"]
    tls = None
    if place.authority:
        options = TlsContextOptions()
        options.override_default_trust_store_from_path(ca_filepath=place.authority)
        tls = TlsConnectionOptions(ClientTlsContext(options))
    credentials = AwsCredentialsProvider.new_static(
        os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    )
    return S3Client(
        bootstrap=ClientBootstrap(loops, DefaultHostResolver(loops)),
        region=region,
        tls_mode=S3RequestTlsMode.ENABLED if tls else S3RequestTlsMode.DISABLED,
        tls_connection_options=tls,
        signing_config=create_default_s3_signing_config(region=region, credential_provider=credentials),
        part_size=PART,
    )


def _exchange(place: Place, client: S3Client, wanted: Iterable[tuple[str, dict[str, object]]]) -> None:
    """Make requests, so many at a time, and wait for all.

    Args:
        place: where.
        client: of the runtime.
        wanted: keys, and what `make_request` gets beside the request.
    """
    free = Semaphore(AT_ONCE)
    pending = []
    for key, arguments in wanted:
        free.acquire()
        headers = HttpHeaders([("host", urlsplit(place.endpoint).netloc)])
        size = arguments.pop("size", None)
        if size is not None:
            headers.add("content-length", str(size))
        method = "GET" if size is None else "PUT"
        request = HttpRequest(method, f"/{place.bucket}/{quote(key)}", headers)
        made = client.make_request(request=request, on_done=lambda **_: free.release(), **arguments)
        pending.append(made.finished_future)
    for future in pending:
        future.result()


def upload(place: Place) -> None:
    kind = S3RequestType.PUT_OBJECT
    wanted = (
        (key, {"type": kind, "send_filepath": str(path), "size": path.stat().st_size}) for path, key in place.files()
    )
    _exchange(place, _client(place), wanted)


def download(place: Place) -> None:
    listed = boto3.resource("s3").Bucket(place.bucket).objects.filter(Prefix=place.prefix)
    kind = S3RequestType.GET_OBJECT
    wanted = ((entry.key, {"type": kind, "recv_filepath": str(place.target(entry.key))}) for entry in listed)
    _exchange(place, _client(place), wanted)
