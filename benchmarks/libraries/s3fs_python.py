"""s3fs, the file system of fsspec: `put` and `get` of a directory."""

from __future__ import annotations

import s3fs

from benchmarks.libraries.place import Place


def upload(place: Place) -> None:
    s3fs.S3FileSystem().put(f"{place.directory}/", f"{place.bucket}/{place.prefix}", recursive=True)


def download(place: Place) -> None:
    s3fs.S3FileSystem().get(f"{place.bucket}/{place.prefix}", f"{place.directory}/", recursive=True)
