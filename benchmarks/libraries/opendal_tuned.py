"""OpenDAL: parts of 16 MiB, eight at a time."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import opendal

from benchmarks.libraries.place import PART, THREADS, Place, side_by_side, write_ranges


def _operator(place: Place) -> opendal.Operator:
    return opendal.Operator(
        "s3",
        bucket=place.bucket,
        endpoint=place.endpoint,
        region=os.environ["AWS_REGION"],
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
    )


def _send(operator: opendal.Operator, path: Path, key: str) -> None:
    if path.stat().st_size <= PART:
        operator.write(key, path.read_bytes())
        return
    with path.open("rb") as file, operator.open(key, "wb", chunk=PART, concurrent=THREADS) as target:
        while piece := file.read(PART):
            target.write(piece)


def upload(place: Place) -> None:
    operator = _operator(place)
    side_by_side(partial(_send, operator, path, key) for path, key in place.files())


def download(place: Place) -> None:
    operator = _operator(place)
    jobs: list[Callable[[], object]] = []
    for entry in operator.list(place.prefix, recursive=True):
        if not entry.path.endswith("/"):
            jobs += _fetch(operator, place, entry.path, entry.metadata.content_length)
    side_by_side(jobs)


def _fetch(operator: opendal.Operator, place: Place, key: str, size: int) -> list[Callable[[], object]]:
    path = place.target(key)
    if size > PART:
        return write_ranges(path, size, lambda at, length: memoryview(operator.read(key, offset=at, size=length)))
    return [lambda: path.write_bytes(operator.read(key))]
