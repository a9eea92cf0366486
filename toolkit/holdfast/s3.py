"""A store in an S3 bucket, on AWS or on a server that speaks its protocol.

Every body travels with its CRC64NVME, which the server checks and keeps. Directory buckets (S3 Express) are not
supported: they list in no order.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote_plus

import urllib3

from holdfast import s3_errors
from holdfast.body import PIECE
from holdfast.checksum import crc64nvme as checksum_of
from holdfast.checksum import to_base64
from holdfast.errors import AlreadyExistsError, DamagedError, NotFoundError, PermanentStoreError, TransientStoreError
from holdfast.location import Location
from holdfast.s3_settings import S3Settings
from holdfast.s3_wire import Request, Wire
from holdfast.store import ObjectInfo, Part, Sink, StoredPart, Upload

_METADATA = "x-amz-meta-"
_CHECKSUM = "x-amz-checksum-crc64nvme"
_ONLY_IF_ABSENT = {"If-None-Match": "*"}


class S3Store:
    """The objects of a bucket below a prefix. Makes one request for each call and repeats none.

    Args:
        location: bucket and prefix.
        settings: how to reach S3.
    """

    def __init__(self, location: Location, settings: S3Settings) -> None:
        self._wire = Wire(settings, location.bucket)
        self._prefix = f"{location.prefix}/" if location.prefix else ""
        self._bucket = location.bucket

    def check(self) -> None:
        """As `Store.check`: lists at most one key."""
        self._page("", None, most=1)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """As `Store.list`. One request for each 1,000 keys, made as they are asked for.

        The console's marker of the folder that the store's prefix is has no name below it, and is passed over.
        """
        token: str | None = None
        last = ""
        while True:
            root = self._page(prefix, token, most=1000)
            decode = s3_errors.text_of(root, "EncodingType") == "url"
            for entry in root.iterfind("Contents"):
                key = s3_errors.text_of(entry, "Key")
                whole = unquote_plus(key, errors="surrogateescape") if decode else key
                if whole < last or not whole.startswith(self._prefix):
                    raise PermanentStoreError(
                        f"bucket {self._bucket!r} does not list its keys in order, or lists others than were asked "
                        "for: holdfast needs a general purpose bucket"
                    )
                last = whole
                if whole != self._prefix:
                    yield self._listed(whole.removeprefix(self._prefix), entry)
            token = s3_errors.text_of(root, "NextContinuationToken")
            if s3_errors.text_of(root, "IsTruncated") != "true":
                return
            if not token:
                raise TransientStoreError(
                    f"listing bucket {self._bucket!r} broke off: more was announced and not named"
                )

    def _listed(self, key: str, entry: ET.Element) -> ObjectInfo:
        try:
            size = int(s3_errors.text_of(entry, "Size"))
            modified = datetime.fromisoformat(s3_errors.text_of(entry, "LastModified")).timestamp()
        except ValueError as error:
            raise TransientStoreError(f"the listing of {key!r} is not what S3 sends ({error})") from error
        return ObjectInfo(key, size, s3_errors.text_of(entry, "ETag"), modified)

    def _page(self, prefix: str, token: str | None, *, most: int) -> ET.Element:
        query = [
            ("encoding-type", "url"),
            ("list-type", "2"),
            ("max-keys", str(most)),
            ("prefix", self._prefix + prefix),
        ]
        if token:
            query.append(("continuation-token", token))
        where = f"s3://{self._bucket}/{self._prefix}{prefix}"
        return self._answer(Request("GET", f"listing {where!r}", "s3:ListBucket", query=query), "ListBucketResult")

    def head(self, key: str) -> ObjectInfo:
        """As `Store.head`."""
        permission = "s3:GetObject (and s3:ListBucket, without which S3 does not say that an object is missing)"
        with self._wire.send(self._request("HEAD", "looking at", key, permission)) as response:
            headers = response.headers
        try:
            size = int(headers["content-length"])
            modified = parsedate_to_datetime(headers["last-modified"]).timestamp()
            etag = headers["etag"]
        except (KeyError, ValueError) as error:
            raise TransientStoreError(f"the description of {key!r} is not what S3 sends ({error})") from error
        metadata = {
            name.lower().removeprefix(_METADATA): value
            for name, value in headers.items()
            if name.lower().startswith(_METADATA)
        }
        return ObjectInfo(key, size, etag, modified, metadata)

    def read(self, key: str, *, offset: int = 0, size: int | None = None, etag: str | None = None, sink: Sink) -> None:
        """As `Store.read`, with If-Match and Range."""
        if size == 0:
            info = self.head(key)  # S3 has no empty ranges
            if etag not in (None, info.etag):
                raise self._replaced(key)
            return
        headers = {} if etag is None else {"If-Match": etag}
        if offset or size is not None:
            headers["Range"] = f"bytes={offset}-" if size is None else f"bytes={offset}-{offset + size - 1}"
        try:
            with self._wire.send(self._request("GET", "reading", key, "s3:GetObject", headers=headers)) as response:
                if etag not in (None, _etag(response, f"reading {key!r}")):
                    raise self._replaced(key)  # by a server that does not look at If-Match
                self._deliver(key, response, size, sink, ranged=offset > 0)
        except AlreadyExistsError as error:
            raise self._replaced(key) from error
        except s3_errors.BeyondEndError:
            if size is None and self.head(key).size == offset:
                return  # all that follows is nothing
            raise

    def _replaced(self, key: str) -> DamagedError:
        return DamagedError(f"object {key!r} is no longer the content that was recorded: somebody has replaced it")

    def _deliver(
        self, key: str, response: urllib3.BaseHTTPResponse, size: int | None, sink: Sink, *, ranged: bool
    ) -> None:
        announced = response.headers.get("content-length", "")
        expected = size if size is not None else int(announced) if announced.isdecimal() else None
        got = 0
        while piece := response.read(PIECE):
            got += len(piece)
            if (ranged and response.status == 200) or (expected is not None and got > expected):
                raise PermanentStoreError(f"reading {key!r} failed: the server does not give ranges of an object")
            sink(memoryview(piece))
        if expected is not None and got != expected:
            raise TransientStoreError(f"reading {key!r} ended after {got:,} of {expected:,} bytes")

    def put(
        self, key: str, part: Part, *, metadata: Mapping[str, str] | None = None, only_if_absent: bool = False
    ) -> str:
        """As `Store.put`."""
        headers = {_CHECKSUM: to_base64(part.crc64nvme), **_metadata_headers(metadata)}
        if only_if_absent:
            headers |= _ONLY_IF_ABSENT
        request = self._request("PUT", "storing", key, "s3:PutObject", headers=headers, body=part)
        with self._wire.send(request) as response:
            return self._stored(key, part, response)

    def _stored(self, key: str, part: Part, response: urllib3.BaseHTTPResponse) -> str:
        """Return the ETag of what was stored, unless the answer says that something else was, or nothing."""
        if response.headers.get(_CHECKSUM, to_base64(part.crc64nvme)) != to_base64(part.crc64nvme):
            raise TransientStoreError(f"storing {key!r} failed: the server got other bytes than were sent")
        return _etag(response, f"storing {key!r}")

    def begin_upload(self, key: str, *, metadata: Mapping[str, str] | None = None) -> Upload:
        """As `Store.begin_upload`."""
        headers = {
            "x-amz-checksum-algorithm": "CRC64NVME",
            "x-amz-checksum-type": "FULL_OBJECT",
            **_metadata_headers(metadata),
        }
        request = self._request("POST", "beginning to store", key, "s3:PutObject", [("uploads", "")], headers)
        identity = s3_errors.text_of(self._answer(request, "InitiateMultipartUploadResult"), "UploadId")
        if not identity:
            raise TransientStoreError(f"beginning to store {key!r} failed: the server named no upload")
        return Upload(key, identity, dict(metadata or {}))

    def put_part(self, upload: Upload, number: int, part: Part) -> StoredPart:
        """As `Store.put_part`."""
        query = [("partNumber", str(number)), ("uploadId", upload.id)]
        headers = {_CHECKSUM: to_base64(part.crc64nvme)}
        doing = f"storing part {number} of"
        with self._wire.send(self._request("PUT", doing, upload.key, "s3:PutObject", query, headers, part)) as response:
            return StoredPart(number, self._stored(upload.key, part, response), part.size, part.crc64nvme)

    def complete_upload(
        self, upload: Upload, parts: Sequence[StoredPart], *, crc64nvme: int, only_if_absent: bool = False
    ) -> str:
        """As `Store.complete_upload`."""
        headers = {
            "Content-Type": "application/xml",
            _CHECKSUM: to_base64(crc64nvme),
            "x-amz-checksum-type": "FULL_OBJECT",
            "x-amz-mp-object-size": str(sum(part.size for part in parts)),
        }
        if only_if_absent:
            headers |= _ONLY_IF_ABSENT
        text = _completion(parts)
        body = Part(text, 0, len(text), checksum_of(text))
        query = [("uploadId", upload.id)]
        request = self._request("POST", "completing", upload.key, "s3:PutObject", query, headers, body)
        root = self._answer(request, "CompleteMultipartUploadResult")
        # Some servers (radosgw 16) leave the name of what they made empty.
        return s3_errors.text_of(root, "ETag") or self.head(upload.key).etag

    def abort_upload(self, upload: Upload) -> None:
        """As `Store.abort_upload`."""
        request = self._request(
            "DELETE", "dropping the parts of", upload.key, "s3:AbortMultipartUpload", [("uploadId", upload.id)]
        )
        try:
            with self._wire.send(request):
                pass
        except NotFoundError:
            pass

    def delete(self, key: str) -> None:
        """As `Store.delete`."""
        try:
            with self._wire.send(self._request("DELETE", "deleting", key, "s3:DeleteObject")):
                pass
        except NotFoundError:
            pass

    def _request(
        self,
        method: str,
        doing: str,
        key: str,
        permission: str,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        body: Part | None = None,
    ) -> Request:
        return Request(method, f"{doing} {key!r}", permission, self._prefix + key, query, headers or {}, body)

    def _answer(self, request: Request, expected: str) -> ET.Element:
        """Make a request that is answered with XML of this root. S3 may put an error into the body of a success."""
        with self._wire.send(request) as response:
            root = s3_errors.parse_xml(response.read())
        problem = s3_errors.problem_in_success(root)
        if problem is not None:
            raise problem.as_error(self._wire.purpose(request))
        if root.tag != expected:
            raise TransientStoreError(f"{request.doing} failed: the answer is not what S3 sends (<{root.tag}>)")
        return root


def _etag(response: urllib3.BaseHTTPResponse, doing: str) -> str:
    """Return the ETag, without which a success is that of somebody in between: a load balancer's page, for one."""
    if "etag" not in response.headers:
        raise TransientStoreError(f"{doing} failed: the answer is not what S3 sends (it has no ETag)")
    return response.headers["etag"]


def _metadata_headers(metadata: Mapping[str, str] | None) -> dict[str, str]:
    return {f"{_METADATA}{name}": value for name, value in (metadata or {}).items()}


def _completion(parts: Sequence[StoredPart]) -> bytes:
    root = ET.Element("CompleteMultipartUpload", xmlns="http://s3.amazonaws.com/doc/2006-03-01/")
    for part in sorted(parts, key=lambda part: part.number):
        entry = ET.SubElement(root, "Part")
        ET.SubElement(entry, "PartNumber").text = str(part.number)
        ET.SubElement(entry, "ETag").text = part.etag
        ET.SubElement(entry, "ChecksumCRC64NVME").text = to_base64(part.crc64nvme)
    return ET.tostring(root)
