"""Every store there is, bare and behind the retries, each in an empty place of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from examples.demo.object_server import ObjectServer

from holdfast.checksum import crc64nvme
from holdfast.directory import DirectoryStore
from holdfast.location import Location
from holdfast.retry import RetryingStore
from holdfast.s3 import S3Store
from holdfast.s3_settings import from_environ
from holdfast.store import Part, Store

_PLACES = itertools.count()


@dataclass(frozen=True, slots=True)
class Place:
    """A store under test, and what happens to its objects behind its back.

    Attributes:
        kind: `directory` or `s3`.
        store: the store.
        beside: opens the store whose prefix is this one's with something added.
        missing: a store in a bucket or directory that does not exist.
        intrude: somebody else writes an object.
        unfinished: counts the uploads that were begun and neither completed nor dropped.
    """

    kind: str
    store: Store
    beside: Callable[[str], Store]
    missing: Store
    intrude: Callable[[str, bytes], None]
    unfinished: Callable[[], int]


def part_of(content: bytes) -> Part:
    return Part(content, 0, len(content), crc64nvme(content))


def content_of(store: Store, key: str) -> bytes:
    found: list[bytes] = []
    store.read(key, sink=lambda piece: found.append(bytes(piece)))
    return b"".join(found)


def directory_place(root: Path, wrap: Callable[[Store], Store]) -> Place:
    def intrude(key: str, content: bytes) -> None:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    root.mkdir()
    return Place(
        kind="directory",
        store=wrap(DirectoryStore(root)),
        beside=lambda tail: wrap(DirectoryStore(Path(f"{root}{tail}"))),
        missing=wrap(DirectoryStore(root / "not" / "mounted")),
        intrude=intrude,
        unfinished=lambda: len([*root.glob(".holdfast/uploads/*"), *root.glob(".holdfast/tmp/*")]),
    )


def s3_place(server: ObjectServer, wrap: Callable[[Store], Store]) -> Place:
    prefix = f"place/{next(_PLACES)}"
    settings = from_environ(server.environment)

    def unfinished() -> int:
        answer = server.client.list_multipart_uploads(Bucket=server.bucket, Prefix=f"{prefix}/")
        return len(answer.get("Uploads", []))

    return Place(
        kind="s3",
        store=wrap(S3Store(Location("s3", server.bucket, prefix), settings)),
        beside=lambda tail: wrap(S3Store(Location("s3", server.bucket, prefix + tail), settings)),
        missing=wrap(S3Store(Location("s3", "no-such-bucket", prefix), settings)),
        intrude=lambda key, content: server.client.put_object(
            Bucket=server.bucket, Key=f"{prefix}/{key}", Body=content
        ),
        unfinished=unfinished,
    )


@pytest.fixture(params=["directory", "s3", "directory behind retries", "s3 behind retries"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    wrap: Callable[[Store], Store] = RetryingStore if "retries" in request.param else lambda store: store
    if request.param.startswith("s3"):
        yield s3_place(request.getfixturevalue("s3_server"), wrap)
    else:
        yield directory_place(tmp_path / "store", wrap)


@pytest.fixture
def store(place: Place) -> Store:
    return place.store
