"""S3 Torch Connector: the reader and the writer of its S3Checkpoint, file by file, as torch.save would use them."""

from __future__ import annotations

import os
import shutil

import boto3
from s3torchconnector import S3Checkpoint, S3ClientConfig

from benchmarks.libraries.place import Place


def _checkpoint(place: Place) -> S3Checkpoint:
    if place.authority:
        raise NotImplementedError("it can be told no certificate to trust")
    settings = S3ClientConfig(force_path_style=True)
    return S3Checkpoint(os.environ["AWS_REGION"], endpoint=place.endpoint, s3client_config=settings)


def upload(place: Place) -> None:
    checkpoint = _checkpoint(place)
    for path, key in place.files():
        with path.open("rb") as file, checkpoint.writer(f"s3://{place.bucket}/{key}") as writer:
            shutil.copyfileobj(file, writer, 1 << 20)


def download(place: Place) -> None:
    checkpoint = _checkpoint(place)
    for listed in boto3.resource("s3").Bucket(place.bucket).objects.filter(Prefix=place.prefix):
        with (
            checkpoint.reader(f"s3://{place.bucket}/{listed.key}") as reader,
            place.target(listed.key).open("wb") as file,
        ):
            shutil.copyfileobj(reader, file, 1 << 20)
