"""Every store, bare and behind the retries, each in an empty place of its own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from examples.demo.object_server import ObjectServer

from holdfast.store import Part, Store
from holdfast.store.directory.store import DirectoryStore
from holdfast.store.location import Location
from holdfast.store.retry import RetryingStore
from holdfast.store.s3.settings import from_environ
from holdfast.store.s3.store import S3Store

_PLACES = itertools.count()

# Features that the tests need and a store lacks. A test that needs one must fail there: when it passes, the server has
# the feature, and this table and the one in docs/reliability.md are out of date. A server without an entry has all.
GAPS: Mapping[str, frozenset[str]] = {
    "directory": frozenset({"smallest part", "checksum kept", "checksum of parts kept"}),
    "moto": frozenset(
        {
            "newline in a key", "checksum kept", "wrong checksum refused", "wrong checksum of the whole refused",
            "end of an upload", "pinned copy", "copy only if absent",
            "replacing copy", "end of a copied range", "checksum of a copied part",
            "replacing completion", "time of an upload",
        }
    ),
    "radosgw": frozenset(
        {
            "checksum kept", "checksum of parts kept", "wrong checksum refused", "wrong checksum of the whole refused",
            "end of an upload", "completion only if absent", "pinned copy", "checksum of a copy",
            "copy only if absent", "replacing copy", "checksum of a copied part", "replacing completion",
            "conditional delete",
        }
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """A store under test, and what happens to its objects behind its back.

    Attributes:
        kind: `directory` or `s3`.
        server: what keeps the objects, as `GAPS` names it.
        store: the store.
        beside: opens the store whose prefix is this one's with something added.
        missing: a store in a bucket or directory that does not exist.
        intrude: another writer writes an object.
        send_damaged: sends bytes with the checksum of other bytes; None where nothing is sent.
        unfinished: counts the uploads that were begun and neither completed nor dropped.
    """

    kind: str
    server: str
    store: Store
    beside: Callable[[str], Store]
    missing: Store
    intrude: Callable[[str, bytes], None]
    send_damaged: Callable[[str, bytes, str], None] | None
    unfinished: Callable[[], int]


def part_of(content: bytes) -> Part:
    return Part.of(content)


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
        server="directory",
        store=wrap(DirectoryStore(root)),
        beside=lambda tail: wrap(DirectoryStore(Path(f"{root}{tail}"))),
        missing=wrap(DirectoryStore(root / "not" / "mounted")),
        intrude=intrude,
        send_damaged=None,
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
        server=os.environ.get("HOLDFAST_TEST_S3_SERVER", "moto"),
        store=wrap(S3Store(Location("s3", server.bucket, prefix), settings)),
        beside=lambda tail: wrap(S3Store(Location("s3", server.bucket, prefix + tail), settings)),
        missing=wrap(S3Store(Location("s3", "no-such-bucket", prefix), settings)),
        intrude=lambda key, content: server.client.put_object(
            Bucket=server.bucket, Key=f"{prefix}/{key}", Body=content
        ),
        send_damaged=lambda key, content, checksum: server.client.put_object(
            Bucket=server.bucket, Key=f"{prefix}/{key}", Body=content, ChecksumCRC64NVME=checksum
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


@pytest.fixture(autouse=True)
def _gap(request: pytest.FixtureRequest, place: Place) -> None:
    """Expect a test to fail that needs a feature which the server lacks."""
    for marker in request.node.iter_markers("needs"):
        for feature in marker.args:
            if feature in GAPS.get(place.server, frozenset()):
                request.applymarker(pytest.mark.xfail(strict=True, reason=f"{place.server}: {feature}"))


@pytest.fixture
def store(place: Place) -> Store:
    return place.store
