"""A store in an S3 bucket, on AWS or on an S3-compatible server.

Every body is sent with its CRC64NVME, which the server checks and keeps. Directory buckets (S3 Express) are not
supported: their listings are not sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime

from holdfast.checksum import to_base64
from holdfast.errors import AlreadyExistsError, DamagedError, NotFoundError, PermanentStoreError, TransientStoreError
from holdfast.stop import NEVER, StopToken
from holdfast.store import (
    Condition,
    Content,
    Metadata,
    ObjectInfo,
    ObjectRange,
    Part,
    Replaces,
    Sink,
    StoredPart,
    UnfinishedUpload,
    Upload,
)
from holdfast.store.location import Location
from holdfast.store.s3 import errors, messages
from holdfast.store.s3.client import Client, deliver
from holdfast.store.s3.http11 import Response
from holdfast.store.s3.listing import Listing
from holdfast.store.s3.messages import Request
from holdfast.store.s3.settings import S3Settings
from holdfast.workers.concurrency import Concurrency


class S3Store:
    """The objects of a bucket below a prefix. Makes one request for each call, without retries.

    Args:
        allow: called before bytes of a file are sent; returns how many may go, possibly after a wait.
        concurrency: measures the requests; None where its limit is not used.
    """

    def __init__(
        self,
        location: Location,
        settings: S3Settings,
        *,
        stop: StopToken = NEVER,
        allow: Callable[[int], int] = lambda wanted: wanted,
        concurrency: Concurrency | None = None,
    ) -> None:
        self._client = Client(settings, location, stop, allow, concurrency or Concurrency())
        self._listing = Listing(self._client)

    def check(self) -> None:
        self._listing.touch()

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return self._listing.objects(prefix)

    def head(self, key: str) -> ObjectInfo:
        permission = "s3:GetObject (and s3:ListBucket, without which S3 does not say that an object is missing)"
        request = Request("HEAD", "looking at", key, permission, headers={"x-amz-checksum-mode": "ENABLED"})
        with self._client.send(request) as response:
            headers = response.headers
        try:
            size = int(headers["content-length"])
            modified = parsedate_to_datetime(headers["last-modified"]).timestamp()
            etag = headers["etag"]
        except (KeyError, ValueError) as error:
            raise TransientStoreError(f"the description of {key!r} is not what S3 sends ({error})") from error
        crc = messages.crc_of(headers.get(messages.CHECKSUM))
        return ObjectInfo(key, size, etag, modified, metadata=messages.metadata_in(headers), crc64nvme=crc)

    def read(self, key: str, *, offset: int = 0, size: int | None = None, etag: str | None = None, sink: Sink) -> None:
        if size == 0:
            info = self.head(key)  # S3 has no empty ranges
            if etag not in (None, info.etag):
                raise self._replaced(key)
            return
        headers = messages.if_match(etag)
        if offset or size is not None:
            headers["Range"] = f"bytes={offset}-" if size is None else f"bytes={offset}-{offset + size - 1}"
        try:
            with self._client.send(Request("GET", "reading", key, "s3:GetObject", headers=headers)) as response:
                if etag not in (None, _etag(response, f"reading {key!r}")):
                    raise self._replaced(key)  # by a server that ignores If-Match
                deliver(response, key, size, sink, ranged=offset > 0)
        except AlreadyExistsError as error:
            raise self._replaced(key) from error
        except errors.BeyondEndError:
            if size is None and self.head(key).size == offset:
                return  # no bytes follow
            raise

    def _replaced(self, key: str) -> DamagedError:
        return DamagedError(f"object {key!r} is no longer the recorded content: another writer has replaced it")

    def put(self, key: str, part: Part, *, metadata: Metadata | None = None, condition: Condition | None = None) -> str:
        headers = {messages.CHECKSUM: to_base64(part.crc64nvme), **messages.object_headers(metadata, condition)}
        request = Request("PUT", "storing", key, "s3:PutObject", headers=headers, body=part)
        with self._client.send(request) as response:
            return self._stored(key, part, response)

    def _stored(self, key: str, part: Part, response: Response) -> str:
        """Return the ETag of a stored body, unless the answer has another checksum or no ETag."""
        if response.headers.get(messages.CHECKSUM, to_base64(part.crc64nvme)) != to_base64(part.crc64nvme):
            raise TransientStoreError(f"storing {key!r} failed: the server got other bytes than were sent")
        return _etag(response, f"storing {key!r}")

    def copy(
        self, source: Content, key: str, *, metadata: Metadata | None = None, condition: Condition | None = None
    ) -> str:
        if source.key == key:
            raise PermanentStoreError(f"{key!r} cannot be copied onto itself")
        headers = {
            **self._source(source),
            **messages.object_headers(metadata, condition),
            "x-amz-metadata-directive": "REPLACE",
            # Neither tags nor annotations are copied: that would need permissions that nothing else needs.
            "x-amz-tagging-directive": "REPLACE",
            "x-amz-object-annotation-directive": "EXCLUDE",
            "x-amz-checksum-algorithm": "CRC64NVME",
        }
        permission = "s3:GetObject and s3:PutObject"
        try:
            request = Request("PUT", f"copying {source.key!r} to", key, permission, headers=headers)
            copied, _ = self._copy(request, source, "CopyObjectResult")
        except (AlreadyExistsError, NotFoundError) as error:
            # S3 does not say which condition failed, nor which of the two keys is missing.
            if self.head(source.key).etag != source.etag or condition is None:
                raise self._replaced(source.key) from error
            raise AlreadyExistsError(
                f"copying {source.key!r} failed: there is another object at {key!r}: {error}"
            ) from error
        return copied or self.head(key).etag

    def _copy(self, request: Request, source: Content | ObjectRange, expected: str) -> tuple[str, int | None]:
        """Make a request for a copy; return its ETag (empty without one) and the checksum that the answer has."""
        try:
            root = self._client.answer(request, expected)
        except errors.StrangeAnswerError as error:  # the server ignored the header and stored an empty body
            message = f"{error}; the server, or a proxy in front of it, does not support copies"
            raise PermanentStoreError(message) from error
        checksum = messages.crc_of(messages.text_of(root, "ChecksumCRC64NVME"))
        if checksum is None:
            if self.head(source.key).etag != source.etag:  # radosgw 16 and moto ignore the condition on it
                raise self._replaced(source.key)
        elif source.crc64nvme not in (None, checksum):
            raise DamagedError(f"the copy of {source.key!r} has another CRC64NVME than the recorded one")
        return messages.etag_in(root), checksum

    def _source(self, source: Content | ObjectRange) -> dict[str, str]:
        return {
            "x-amz-copy-source": self._client.target(source.key),
            "x-amz-copy-source-if-match": source.etag,
        }

    def begin_upload(self, key: str, *, part_size: int, metadata: Metadata | None = None) -> Upload:
        headers = {
            "x-amz-checksum-algorithm": "CRC64NVME",
            "x-amz-checksum-type": "FULL_OBJECT",
            **messages.object_headers(metadata),
        }
        request = Request("POST", "beginning to store", key, "s3:PutObject", query=[("uploads", "")], headers=headers)
        identity = messages.text_of(self._client.answer(request, "InitiateMultipartUploadResult"), "UploadId")
        if not identity:
            raise TransientStoreError(f"beginning to store {key!r} failed: the answer has no upload id")
        return Upload(key, identity, dict(metadata or {}))

    def put_part(self, upload: Upload, number: int, part: Part) -> StoredPart:
        query = [("partNumber", str(number)), ("uploadId", upload.id)]
        headers = {messages.CHECKSUM: to_base64(part.crc64nvme)}
        request = Request(
            "PUT", f"storing part {number} of", upload.key, "s3:PutObject", query=query, headers=headers, body=part
        )
        with self._client.send(request) as response:
            return StoredPart(number, self._stored(upload.key, part, response), part.size, part.crc64nvme)

    def put_part_copy(self, upload: Upload, number: int, source: ObjectRange) -> StoredPart:
        query = [("partNumber", str(number)), ("uploadId", upload.id)]
        last = source.offset + source.size - 1
        headers = {**self._source(source), "x-amz-copy-source-range": f"bytes={source.offset}-{last}"}
        doing, permission = f"copying {source.key!r} to part {number} of", "s3:GetObject and s3:PutObject"
        try:
            request = Request("PUT", doing, upload.key, permission, query=query, headers=headers)
            etag, checksum = self._copy(request, source, "CopyPartResult")
        except AlreadyExistsError as error:
            raise self._replaced(source.key) from error
        except errors.BeyondEndError as error:
            raise PermanentStoreError(str(error)) from error  # the ETag is right: the object will not grow
        return StoredPart(number, etag, source.size, checksum if source.crc64nvme is None else source.crc64nvme)

    def complete_upload(
        self, upload: Upload, parts: Sequence[StoredPart], *, crc64nvme: int, condition: Condition | None = None
    ) -> str:
        headers = {
            "Content-Type": "application/xml",
            messages.CHECKSUM: to_base64(crc64nvme),
            "x-amz-checksum-type": "FULL_OBJECT",
            "x-amz-mp-object-size": str(sum(part.size for part in parts)),
            **messages.object_headers(None, condition),
        }
        replaces = isinstance(condition, Replaces)
        body = Part.of(messages.completion(parts))
        query = [("uploadId", upload.id)]
        permission = "s3:PutObject and s3:GetObject" if replaces else "s3:PutObject"
        request = Request("POST", "completing", upload.key, permission, query=query, headers=headers, body=body)
        try:
            root = self._client.answer(request, "CompleteMultipartUploadResult")
        except errors.BadDigestError as error:
            raise PermanentStoreError(f"{error}; the parts do not make up the announced object") from error
        except NotFoundError as error:
            if not replaces or isinstance(error, errors.NoUploadError):
                raise
            raise AlreadyExistsError(f"there is nothing to replace at {upload.key!r}: {error}") from error
        # Some servers (radosgw 16) leave the ETag empty.
        return messages.etag_in(root) or self.head(upload.key).etag

    def abort_upload(self, upload: Upload) -> None:
        query, permission = [("uploadId", upload.id)], "s3:AbortMultipartUpload"
        self._remove(Request("DELETE", "aborting the upload of", upload.key, permission, query=query))

    def unfinished_uploads(self) -> Iterator[UnfinishedUpload]:
        return self._listing.uploads()

    def delete(self, key: str, *, etag: str | None = None) -> None:
        permission = "s3:DeleteObject" if etag is None else "s3:DeleteObject and s3:GetObject"
        self._remove(Request("DELETE", "deleting", key, permission, headers=messages.if_match(etag)))

    def _remove(self, request: Request) -> None:
        with suppress(NotFoundError), self._client.send(request):
            pass


def _etag(response: Response, doing: str) -> str:
    """Return the ETag, without which a success is not from S3: it may be the page of a load balancer."""
    if "etag" not in response.headers:
        raise TransientStoreError(f"{doing} failed: the answer is not what S3 sends (it has no ETag)")
    return response.headers["etag"]
