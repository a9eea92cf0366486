"""obstore, with its own defaults for uploads; downloads in ranges of 16 MiB, eight at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import obstore
from obstore.store import S3Store

from benchmarks.libraries.place import PART, Place, side_by_side, write_ranges


def store_of(place: Place, *, unsigned_payload: bool) -> S3Store:
    plain = place.endpoint.startswith("http:")
    return S3Store(
        place.bucket,
        endpoint=place.endpoint,
        virtual_hosted_style_request=False,
        unsigned_payload=unsigned_payload,
        client_options={"allow_http": plain},
    )


def upload(place: Place, *, unsigned_payload: bool = False) -> None:
    store = store_of(place, unsigned_payload=unsigned_payload)
    side_by_side(partial(obstore.put, store, key, path) for path, key in place.files())


def download(place: Place, *, unsigned_payload: bool = False) -> None:
    store = store_of(place, unsigned_payload=unsigned_payload)
    jobs: list[Callable[[], object]] = []
    for page in obstore.list(store, prefix=place.prefix):
        for listed in page:
            jobs += _fetch(store, place, listed["path"], listed["size"])
    side_by_side(jobs)


def _fetch(store: S3Store, place: Place, key: str, size: int) -> list[Callable[[], object]]:
    path = place.target(key)
    if size > PART:
        return write_ranges(
            path, size, lambda at, length: memoryview(obstore.get_range(store, key, start=at, length=length))
        )
    return [lambda: path.write_bytes(obstore.get(store, key).bytes())]
