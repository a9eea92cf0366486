"""A store at a scripted server, and requests to make of it."""

from __future__ import annotations

from tests.servers import Answer, ScriptedServer

from holdfast.store import Absent, Part, StoredPart, Upload
from holdfast.store.location import Location
from holdfast.store.s3.settings import from_environ
from holdfast.store.s3.store import S3Store

DONE = Answer(headers={"ETag": '"e"', "Last-Modified": "Fri, 02 Jan 2026 03:04:05 GMT"})
BYTES = Part.of(b"12345")
LARGE = Part.of(bytes(32 << 20))
UPLOAD = Upload("k", "id")
PARTS = [StoredPart(1, '"p"', 5, BYTES.crc64nvme)]


def open_at(server: ScriptedServer, prefix: str = "p", **environ: str) -> S3Store:
    return S3Store(Location("s3", "data", prefix), from_environ(server.environ(**environ)))


def complete(store: S3Store) -> str:
    return store.complete_upload(UPLOAD, PARTS, crc64nvme=BYTES.crc64nvme, condition=Absent())


def read_all(store: S3Store, *, offset: int = 0, size: int | None = None) -> bytes:
    found: list[bytes] = []
    store.read("k", offset=offset, size=size, sink=lambda piece: found.append(bytes(piece)))
    return b"".join(found)
