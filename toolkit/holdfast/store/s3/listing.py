"""List the objects and the unfinished uploads below a prefix of a bucket."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import datetime
from urllib.parse import unquote_plus

from holdfast.errors import PermanentStoreError, TransientStoreError
from holdfast.store import ObjectInfo, UnfinishedUpload, Upload
from holdfast.store.s3 import messages
from holdfast.store.s3.client import Client
from holdfast.store.s3.messages import Request


class Listing:
    """The listings of a bucket, requested page by page.

    Args:
        client: of the bucket.
        prefix: of the store; empty, or with a slash at its end.
    """

    def __init__(self, client: Client, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    def touch(self) -> None:
        """Request one key at most, to see that the bucket exists and may be listed."""
        self._page("", None, most=1)

    def objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose keys start with `prefix`. One request for each 1,000, made when they are needed.

        The console's marker for the folder of the store's prefix is skipped.
        """
        token: str | None = None
        last = ""
        while True:
            root = self._page(prefix, token, most=1000)
            for entry in root.iterfind("Contents"):
                whole = _key(root, entry)
                if whole < last or not whole.startswith(self._prefix):
                    raise PermanentStoreError(
                        f"bucket {self._client.bucket!r} does not list its keys in order, or lists others than "
                        "requested: holdfast needs a general purpose bucket"
                    )
                last = whole
                if whole != self._prefix:
                    yield self._listed(whole.removeprefix(self._prefix), entry)
            token = messages.text_of(root, "NextContinuationToken")
            if messages.text_of(root, "IsTruncated") != "true":
                return
            if not token:
                raise self._cut_off()

    def uploads(self) -> Iterator[UnfinishedUpload]:
        """Yield the multipart uploads below the prefix that are neither completed nor aborted."""
        query = [("max-uploads", "1000"), ("prefix", self._prefix), ("uploads", "")]
        encoding, markers = [("encoding-type", "url")], list[tuple[str, str]]()
        while True:
            doing = f"listing the unfinished uploads of {self._where('')}"
            asked = [*encoding, *query, *markers]
            request = Request("GET", doing, "s3:ListBucketMultipartUploads", query=asked)
            root = self._client.answer(request, "ListMultipartUploadsResult")
            if encoding and messages.text_of(root, "EncodingType") != "url":
                encoding = []  # radosgw 16 encodes the keys without saying so, but not in a plain listing
                continue
            for entry in root.iterfind("Upload"):
                key = _key(root, entry)
                if key.startswith(self._prefix):
                    upload = Upload(key.removeprefix(self._prefix), messages.text_of(entry, "UploadId"))
                    yield UnfinishedUpload(upload, _time(entry, "Initiated", key))
            if messages.text_of(root, "IsTruncated") != "true":
                return
            following = [
                ("key-marker", _key(root, root, "NextKeyMarker")),
                ("upload-id-marker", messages.text_of(root, "NextUploadIdMarker")),
            ]
            if following == markers or not following[0][1]:
                raise self._cut_off()
            markers = following

    def _listed(self, key: str, entry: ET.Element) -> ObjectInfo:
        try:
            size = int(messages.text_of(entry, "Size"))
        except ValueError as error:
            raise TransientStoreError(f"the listing of {key!r} is not what S3 sends ({error})") from error
        modified = _time(entry, "LastModified", key)
        return ObjectInfo(key, size, messages.text_of(entry, "ETag"), modified)

    def _page(self, prefix: str, token: str | None, *, most: int) -> ET.Element:
        query = [
            ("encoding-type", "url"),
            ("list-type", "2"),
            ("max-keys", str(most)),
            ("prefix", self._prefix + prefix),
        ]
        if token:
            query.append(("continuation-token", token))
        request = Request("GET", f"listing {self._where(prefix)}", "s3:ListBucket", query=query)
        return self._client.answer(request, "ListBucketResult")

    def _where(self, prefix: str) -> str:
        return repr(f"s3://{self._client.bucket}/{self._prefix}{prefix}")

    def _cut_off(self) -> TransientStoreError:
        bucket = self._client.bucket
        return TransientStoreError(
            f"listing bucket {bucket!r} ended early: the answer announces more pages and names none"
        )


def _key(root: ET.Element, entry: ET.Element, name: str = "Key") -> str:
    """Return a key of a listing; its root says whether keys are percent-encoded."""
    key = messages.text_of(entry, name)
    if messages.text_of(root, "EncodingType") == "url":
        return unquote_plus(key, errors="surrogateescape")
    return key


def _time(entry: ET.Element, name: str, key: str) -> float:
    try:
        return datetime.fromisoformat(messages.text_of(entry, name)).timestamp()
    except ValueError as error:
        raise TransientStoreError(f"the listing of {key!r} is not what S3 sends ({error})") from error
