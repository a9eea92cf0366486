"""boto3 as its documentation has it: `upload_file` and `download_file`, one after another, nothing set."""

from __future__ import annotations

import boto3

from benchmarks.libraries.place import Place


def upload(place: Place) -> None:
    client = boto3.client("s3")
    for path, key in place.files():
        client.upload_file(str(path), place.bucket, key)


def download(place: Place) -> None:
    bucket = boto3.resource("s3").Bucket(place.bucket)
    for listed in bucket.objects.filter(Prefix=place.prefix):
        bucket.download_file(listed.key, str(place.target(listed.key)))
