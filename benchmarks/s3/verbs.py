"""What S3's requests do. Each verb takes a request and returns its answer."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate

from benchmarks.s3 import forms
from benchmarks.s3.buckets import Buckets
from benchmarks.s3.contents import (
    Content,
    MultipartUpload,
    RefusedError,
    Segment,
    StoredObject,
    assemble,
    new_etag,
)
from benchmarks.s3.streams import Body

# Up to here content is kept in memory: a file for each of a million objects would be a million open files.
SMALL = 1 << 20
CHECKSUM = "x-amz-checksum-"
CRC64NVME = "x-amz-checksum-crc64nvme"
_KEPT = ("content-type", "cache-control", "content-disposition", "content-language", "expires")


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose body is still to be read.

    Attributes:
        method: GET, PUT, …
        bucket: its name; empty for the server itself.
        key: empty for the bucket itself.
        query: by name.
        headers: by name in small letters.
        body: what follows the head.
    """

    method: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Body


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send.

    Attributes:
        status: of HTTP.
        headers: beside Date and Content-Length.
        body: XML, mostly.
        segments: content of an object, instead of a body.
        size: Content-Length, where neither is sent (HEAD).
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    segments: Sequence[Segment] = ()
    size: int | None = None


def put_object(request: Request, buckets: Buckets) -> Answer:
    """PutObject."""
    stored = _stored(request, buckets)
    buckets[request.bucket].put(request.key, stored, request.headers)
    return Answer(headers={"ETag": stored.etag, **stored.checksums})


def upload_part(request: Request, buckets: Buckets) -> Answer:
    """UploadPart."""
    upload, number = upload_of(request, buckets)
    stored = upload.parts[number] = _stored(request, buckets)
    return Answer(headers={"ETag": stored.etag, **stored.checksums})


def _stored(request: Request, buckets: Buckets) -> StoredObject:
    """Take in the body of a request."""
    small = request.body.size is not None and request.body.size <= SMALL
    content = Content(request.body, buckets.folder, buckets.space, small=small)
    named = {**request.headers, **request.body.trailers}
    checksums = {name: value for name, value in named.items() if name.startswith(CHECKSUM) and "=" in value}
    segment = Segment(content, 0, content.size, checksums.get(CRC64NVME))
    return StoredObject([segment], new_etag(), headers=kept(request.headers), checksums=checksums)


def kept(headers: Mapping[str, str]) -> dict[str, str]:
    """Return those headers of a request that stay with the object."""
    return {name: value for name, value in headers.items() if name in _KEPT or name.startswith("x-amz-meta-")}


def upload_of(request: Request, buckets: Buckets) -> tuple[MultipartUpload, int]:
    upload = buckets[request.bucket].upload(request.query.get("uploadId", ""))
    return upload, int(request.query["partNumber"])


def begin_upload(request: Request, buckets: Buckets) -> Answer:
    """CreateMultipartUpload."""
    identity = secrets.token_hex(16)
    wants = request.headers.get("x-amz-checksum-algorithm", "").upper() == "CRC64NVME"
    upload = MultipartUpload(request.key, kept(request.headers), time.time(), wants)
    buckets[request.bucket].uploads[identity] = upload
    fields = [("Bucket", request.bucket), ("Key", request.key), ("UploadId", identity)]
    return Answer(body=forms.document("InitiateMultipartUploadResult", fields))


def complete_upload(request: Request, buckets: Buckets) -> Answer:
    """CompleteMultipartUpload."""
    bucket, identity = buckets[request.bucket], request.query["uploadId"]
    upload = bucket.upload(identity)
    numbers = [int(number) for (number,) in forms.read_list(_all(request), "Part", "PartNumber")]
    crc = request.headers.get(CRC64NVME)
    stored = assemble(upload, numbers, {CRC64NVME: crc, "x-amz-checksum-type": "FULL_OBJECT"} if crc else {})
    bucket.put(request.key, stored, request.headers)
    bucket.uploads.pop(identity, None)
    fields = [("Location", "/"), ("Bucket", request.bucket), ("Key", request.key), ("ETag", stored.etag)]
    if crc:
        fields += [("ChecksumCRC64NVME", crc), ("ChecksumType", "FULL_OBJECT")]
    return Answer(body=forms.document("CompleteMultipartUploadResult", fields))


def _all(request: Request) -> bytes:
    return b"".join(map(bytes, request.body))


def abort_upload(request: Request, buckets: Buckets) -> Answer:
    """AbortMultipartUpload."""
    bucket = buckets[request.bucket]
    bucket.upload(request.query["uploadId"])
    bucket.uploads.pop(request.query["uploadId"], None)
    return Answer(204)


def delete_object(request: Request, buckets: Buckets) -> Answer:
    """DeleteObject."""
    buckets[request.bucket].delete(request.key, request.headers)
    return Answer(204)


def delete_objects(request: Request, buckets: Buckets) -> Answer:
    """DeleteObjects."""
    keys = [key for (key,) in forms.read_list(_all(request), "Object", "Key")]
    for key in keys:
        buckets[request.bucket].delete(key, {})
    return Answer(body=forms.document("DeleteResult", [("Deleted", [("Key", key)]) for key in keys]))


def get_object(request: Request, buckets: Buckets) -> Answer:
    """GetObject and HeadObject."""
    stored = buckets[request.bucket].get(request.key)
    if request.headers.get("if-match", stored.etag) not in (stored.etag, stored.etag.strip('"')):
        raise RefusedError(412, "PreconditionFailed")
    headers = {
        "ETag": stored.etag,
        "Last-Modified": formatdate(stored.modified, usegmt=True),
        "Accept-Ranges": "bytes",
        "Content-Type": "binary/octet-stream",
        **stored.headers,
    }
    if request.headers.get("if-none-match") == stored.etag:
        return Answer(304, headers, size=0)
    first, size = _range(request, stored)
    status = 200
    if ("range" in request.headers or "partNumber" in request.query) and size:
        status = 206
        headers["Content-Range"] = f"bytes {first}-{first + size - 1}/{stored.size}"
    elif request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
        headers |= stored.checksums
    if stored.part_sizes and "partNumber" in request.query:
        headers["x-amz-mp-parts-count"] = str(len(stored.part_sizes))
    segments = list(stored.slice(first, size)) if request.method == "GET" else []
    return Answer(status, headers, segments=segments, size=size)


def _range(request: Request, stored: StoredObject) -> tuple[int, int]:
    """Return the first byte and the number of bytes that are asked for.

    Raises:
        RefusedError: there is nothing there.
    """
    if number := int(request.query.get("partNumber", "0")):
        sizes = list(stored.part_sizes) or [stored.size]
        if number > len(sizes):
            raise RefusedError(416, "InvalidPartNumber")
        return sum(sizes[: number - 1]), sizes[number - 1]
    begin, dash, end = request.headers.get("range", "").removeprefix("bytes=").partition("-")
    if not dash:
        return 0, stored.size
    if not begin:
        size = min(int(end), stored.size)
        return stored.size - size, size
    first = int(begin)
    if first >= stored.size:
        # The AWS Common Runtime takes an empty object for one by this.
        raise RefusedError(416, "InvalidRange", ActualObjectSize=str(stored.size))
    return first, min(int(end) if end else stored.size, stored.size - 1) - first + 1


def list_objects(request: Request, buckets: Buckets) -> Answer:
    """ListObjectsV2 and ListObjects."""
    return Answer(body=forms.listing(request.bucket, buckets[request.bucket], request.query))


def list_uploads(request: Request, buckets: Buckets) -> Answer:
    """ListMultipartUploads."""
    body = forms.uploads(request.bucket, buckets[request.bucket], request.query.get("prefix", ""))
    return Answer(body=body)


def list_parts(request: Request, buckets: Buckets) -> Answer:
    """ListParts."""
    after, most = int(request.query.get("part-number-marker", "0")), int(request.query.get("max-parts", "1000"))
    return Answer(body=forms.parts(buckets[request.bucket], request.query["uploadId"], after, most))
