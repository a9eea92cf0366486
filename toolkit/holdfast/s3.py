"""A store in an S3 bucket: each method is one request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote
from xml.sax.saxutils import escape

from holdfast import checksum
from holdfast.body import pieces
from holdfast.errors import AlreadyExistsError, DamagedError, NotFoundError, TransientStoreError
from holdfast.s3_wire import Wire, parse
from holdfast.store import ObjectInfo, Part, Sink, StoredPart, Upload

_META = "x-amz-meta-"
_CRC = "x-amz-checksum-crc64nvme"


class S3Store:
    """The objects under one prefix of one bucket.

    Args:
        wire: sends the requests.
        prefix: without slashes at its ends; may be empty.
    """

    def __init__(self, wire: Wire, prefix: str) -> None:
        self._wire = wire
        self._prefix = f"{prefix}/" if prefix else ""

    def check(self) -> None:
        """As `Store.check`: one listing of at most one key."""
        query = {"list-type": "2", "max-keys": "1", "prefix": self._prefix}
        self._wire.request("GET", query=query, action="s3:ListBucket")

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """As `Store.list`: a request for every 1,000 keys."""
        query = {"list-type": "2", "encoding-type": "url", "prefix": self._prefix + prefix}
        while True:
            root = parse(self._wire.request("GET", query=query, action="s3:ListBucket"))
            encoded = root.findtext("EncodingType") == "url"
            for item in root.iter("Contents"):
                key = item.findtext("Key") or ""
                # S3 encodes a space as "+" here, and a plus as %2B.
                key = unquote(key.replace("+", " "), errors="surrogateescape") if encoded else key
                try:
                    yield ObjectInfo(
                        key=key.removeprefix(self._prefix),
                        size=int(item.findtext("Size") or ""),
                        etag=item.findtext("ETag") or "",
                        modified=datetime.fromisoformat(item.findtext("LastModified") or "").timestamp(),
                    )
                except ValueError as error:
                    raise TransientStoreError(f"{self._wire.place}: a listing that makes no sense: {error}") from error
            token = root.findtext("NextContinuationToken")
            if root.findtext("IsTruncated") != "true" or not token:
                return
            query["continuation-token"] = token

    def head(self, key: str) -> ObjectInfo:
        """As `Store.head`."""
        headers, _ = self._wire.exchange("HEAD", self._prefix + key, action="s3:GetObject")
        return ObjectInfo(
            key=key,
            size=int(headers.get("Content-Length", "0")),
            etag=headers.get("ETag", ""),
            modified=parsedate_to_datetime(headers["Last-Modified"]).timestamp(),
            metadata={
                name.lower().removeprefix(_META): value
                for name, value in headers.items()
                if name.lower().startswith(_META)
            },
        )

    def read(self, key: str, *, offset: int = 0, size: int | None = None, etag: str | None = None, sink: Sink) -> None:
        """As `Store.read`."""
        if size == 0:
            return
        headers = {}
        if offset or size is not None:
            headers["Range"] = f"bytes={offset}-{'' if size is None else offset + size - 1}"
        if etag:
            headers["If-Match"] = etag
        received = 0
        try:
            for piece in self._wire.stream(self._prefix + key, headers=headers):
                received += len(piece)
                sink(piece)
        except AlreadyExistsError as error:  # 412: If-Match
            raise DamagedError(f"{key}: the object has changed since it was recorded") from error
        if size is not None and received != size:
            raise TransientStoreError(f"{self._wire.place}: {key!r}: {received:,} bytes came instead of {size:,}")

    def put(
        self, key: str, part: Part, *, metadata: Mapping[str, str] | None = None, only_if_absent: bool = False
    ) -> str:
        """As `Store.put`."""
        headers = {
            **_condition(only_if_absent),
            **_described(metadata),
            "Content-Length": str(part.size),
            _CRC: checksum.to_base64(part.crc64nvme),
        }
        answer, _ = self._wire.exchange(
            "PUT", self._prefix + key, action="s3:PutObject", headers=headers, body=pieces(part)
        )
        return answer.get("ETag", "")

    def begin_upload(self, key: str, *, metadata: Mapping[str, str] | None = None) -> Upload:
        """As `Store.begin_upload`."""
        headers = {
            **_described(metadata),
            "x-amz-checksum-algorithm": "CRC64NVME",
            "x-amz-checksum-type": "FULL_OBJECT",
        }
        data = self._wire.request(
            "POST", self._prefix + key, action="s3:PutObject", query={"uploads": ""}, headers=headers, body=b""
        )
        identity = parse(data).findtext("UploadId")
        if not identity:
            raise TransientStoreError(f"{self._wire.place}: a multipart upload without an id")
        return Upload(key, identity, dict(metadata or {}))

    def put_part(self, upload: Upload, number: int, part: Part) -> StoredPart:
        """As `Store.put_part`."""
        answer, _ = self._wire.exchange(
            "PUT",
            self._prefix + upload.key,
            action="s3:PutObject",
            query={"partNumber": str(number), "uploadId": upload.id},
            headers={"Content-Length": str(part.size), _CRC: checksum.to_base64(part.crc64nvme)},
            body=pieces(part),
        )
        return StoredPart(number, answer.get("ETag", ""), part.size, part.crc64nvme)

    def complete_upload(
        self, upload: Upload, parts: Sequence[StoredPart], *, crc64nvme: int, only_if_absent: bool = False
    ) -> str:
        """As `Store.complete_upload`. S3 may answer 200 and put the error into the body."""
        listed = "".join(
            f"<Part><PartNumber>{part.number}</PartNumber><ETag>{escape(part.etag)}</ETag>"
            f"<ChecksumCRC64NVME>{checksum.to_base64(part.crc64nvme)}</ChecksumCRC64NVME></Part>"
            for part in parts
        )
        body = f'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{listed}</CompleteMultipartUpload>'
        data = self._wire.request(
            "POST",
            self._prefix + upload.key,
            action="s3:PutObject",
            query={"uploadId": upload.id},
            headers={
                **_condition(only_if_absent),
                "x-amz-checksum-type": "FULL_OBJECT",
                _CRC: checksum.to_base64(crc64nvme),
            },
            body=body.encode(),
        )
        root = parse(data)
        etag = root.findtext("ETag")
        if root.tag == "Error" or not etag:
            reason = f"{root.findtext('Code')}: {root.findtext('Message')}"
            raise TransientStoreError(f"{self._wire.place}: {upload.key!r} was not completed: {reason}")
        return etag

    def abort_upload(self, upload: Upload) -> None:
        """As `Store.abort_upload`."""
        self._forgiving("DELETE", upload.key, {"uploadId": upload.id}, "s3:AbortMultipartUpload")

    def delete(self, key: str) -> None:
        """As `Store.delete`."""
        self._forgiving("DELETE", key, {}, "s3:DeleteObject")

    def _forgiving(self, method: str, key: str, query: Mapping[str, str], action: str) -> None:
        try:
            self._wire.request(method, self._prefix + key, action=action, query=query)
        except NotFoundError:
            return


def _condition(only_if_absent: bool) -> dict[str, str]:  # noqa: FBT001  the protocol's own flag, passed on
    return {"If-None-Match": "*"} if only_if_absent else {}


def _described(metadata: Mapping[str, str] | None) -> dict[str, str]:
    return {f"{_META}{name}": value for name, value in (metadata or {}).items()}
