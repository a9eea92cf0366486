"""CopyObject and UploadPartCopy: no byte is moved, what is stored is stored for both."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import unquote

from benchmarks.s3 import forms
from benchmarks.s3.buckets import Buckets
from benchmarks.s3.contents import RefusedError, Segment, StoredObject, new_etag
from benchmarks.s3.verbs import CRC64NVME, SMALL, Answer, Request, kept, upload_of
from holdfast.checksum import crc64nvme, to_base64


def copy_object(request: Request, buckets: Buckets) -> Answer:
    """CopyObject."""
    source = _source(request, buckets)
    headers = source.headers
    if request.headers.get("x-amz-metadata-directive", "").upper() == "REPLACE":
        headers = kept(request.headers)
    copied = replace(source, etag=new_etag(), headers=headers, modified=int(time.time()))
    buckets[request.bucket].put(request.key, copied, request.headers)
    return _copied("CopyObjectResult", copied, copied.checksums.get(CRC64NVME))


def upload_part_copy(request: Request, buckets: Buckets) -> Answer:
    """UploadPartCopy. The checksum of what is copied is given where the upload asked for that kind, as S3 does."""
    upload, number = upload_of(request, buckets)
    source = _source(request, buckets)
    first, size = 0, source.size
    if said := request.headers.get("x-amz-copy-source-range"):
        begin, _, end = said.removeprefix("bytes=").partition("-")
        first, size = int(begin), int(end) - int(begin) + 1
        if first + size > source.size:
            raise RefusedError(416, "InvalidRange")
    segments = list(source.slice(first, size))
    crc = None
    if upload.wants_crc64nvme:
        crc = segments[0].crc64nvme if len(segments) == 1 else None
        crc = crc or _checksum(segments)
    if len(segments) == 1:
        segments = [replace(segments[0], crc64nvme=crc)]
    stored = upload.parts[number] = StoredObject(segments, new_etag())
    return _copied("CopyPartResult", stored, crc)


def _checksum(segments: Sequence[Segment]) -> str:
    crc = 0
    for segment in segments:
        for offset in range(0, segment.size, SMALL):
            piece = segment.content.read(segment.offset + offset, min(SMALL, segment.size - offset))
            crc = crc64nvme(piece, crc)
    return to_base64(crc)


def _source(request: Request, buckets: Buckets) -> StoredObject:
    """Return what a request wants copied.

    Raises:
        RefusedError: it is not there, or not what the request says.
    """
    name = unquote(request.headers["x-amz-copy-source"].partition("?")[0], errors="surrogateescape").lstrip("/")
    bucket, _, key = name.partition("/")
    source = buckets[bucket].get(key)
    if request.headers.get("x-amz-copy-source-if-match", source.etag) not in (source.etag, source.etag.strip('"')):
        raise RefusedError(412, "PreconditionFailed")
    return source


def _copied(root: str, stored: StoredObject, crc: str | None) -> Answer:
    fields = [("ETag", stored.etag), ("LastModified", forms.iso(stored.modified))]
    if crc:
        fields.append(("ChecksumCRC64NVME", crc))
    return Answer(body=forms.document(root, fields))
