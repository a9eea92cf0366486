"""boto3 as fast as it goes: parts of 16 MiB, pieces of 1 MiB, checksums only when required, files side by side."""

from __future__ import annotations

from functools import partial

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from benchmarks.libraries.place import PART, THREADS, Place, side_by_side

SETTINGS = TransferConfig(
    multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=THREADS, io_chunksize=1 << 20
)
CONFIG = Config(
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    max_pool_connections=THREADS * THREADS,
)


def upload(place: Place) -> None:
    client = boto3.client("s3", config=CONFIG)
    side_by_side(
        partial(client.upload_file, str(path), place.bucket, key, Config=SETTINGS) for path, key in place.files()
    )


def download(place: Place) -> None:
    client = boto3.client("s3", config=CONFIG)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=place.bucket, Prefix=place.prefix)
    keys = [entry["Key"] for page in pages for entry in page["Contents"]]
    side_by_side(
        partial(client.download_file, place.bucket, key, str(place.target(key)), Config=SETTINGS) for key in keys
    )
