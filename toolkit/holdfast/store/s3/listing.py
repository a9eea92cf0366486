"""List the objects and the unfinished uploads below a prefix of a bucket."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from urllib.parse import unquote_plus

from holdfast.errors import PermanentStoreError, TransientStoreError
from holdfast.store import ObjectInfo, UnfinishedUpload, Upload
from holdfast.store.s3 import messages
from holdfast.store.s3.client import Client
from holdfast.store.s3.messages import Request

_Query = list[tuple[str, str]]

_ENCODED = ("encoding-type", "url")
_OBJECT_MARKERS = {"NextContinuationToken": "continuation-token"}
_UPLOAD_MARKERS = {"NextKeyMarker": "key-marker", "NextUploadIdMarker": "upload-id-marker"}


class Listing:
    """The listings of a bucket below the prefix of its client, requested page by page."""

    def __init__(self, client: Client) -> None:
        self._client, self._prefix = client, client.prefix

    def touch(self) -> None:
        """Request one key at most, to see that the bucket exists and may be listed."""
        self._page("", 1, [])

    def objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects whose keys start with `prefix`. One request for each 1,000, made when they are needed.

        The console's marker for the folder of the store's prefix is skipped.
        """
        last = ""
        for root in self._pages(lambda markers: self._page(prefix, 1000, markers), _OBJECT_MARKERS):
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

    def uploads(self) -> Iterator[UnfinishedUpload]:
        """Yield the multipart uploads below the prefix that are neither completed nor aborted."""
        doing, permission = f"listing the unfinished uploads of {self._where('')}", "s3:ListBucketMultipartUploads"
        query = [_ENCODED, ("max-uploads", "1000"), ("prefix", self._prefix), ("uploads", "")]

        def page(markers: _Query) -> ET.Element:
            request = Request("GET", doing, None, permission, query=[*query, *markers])
            root = self._client.answer(request, "ListMultipartUploadsResult")
            if _ENCODED in query and messages.text_of(root, "EncodingType") != "url":
                query.remove(_ENCODED)  # radosgw 16 encodes the keys without saying so, but not in a plain listing
                return page(markers)
            return root

        for root in self._pages(page, _UPLOAD_MARKERS):
            for entry in root.iterfind("Upload"):
                key = _key(root, entry)
                if key.startswith(self._prefix):
                    upload = Upload(key.removeprefix(self._prefix), messages.text_of(entry, "UploadId"))
                    yield UnfinishedUpload(upload, _time(entry, "Initiated", key))

    def _pages(self, page: Callable[[_Query], ET.Element], names: Mapping[str, str]) -> Iterator[ET.Element]:
        """Yield the pages of a listing; `names` are the parameters for the next one, by the elements with their values.

        Raises:
            TransientStoreError: the last page announces another one and does not name it.
        """
        markers: _Query = []
        while True:
            root = page(markers)
            yield root
            if messages.text_of(root, "IsTruncated") != "true":
                return
            following = [(name, _marker(root, element)) for element, name in names.items()]
            if following == markers or not following[0][1]:
                bucket = self._client.bucket
                raise TransientStoreError(
                    f"listing bucket {bucket!r} ended early: the answer announces more pages and names none"
                )
            markers = following

    def _listed(self, key: str, entry: ET.Element) -> ObjectInfo:
        try:
            size = int(messages.text_of(entry, "Size"))
        except ValueError as error:
            raise TransientStoreError(f"the listing of {key!r} is not what S3 sends ({error})") from error
        modified = _time(entry, "LastModified", key)
        return ObjectInfo(key, size, messages.text_of(entry, "ETag"), modified)

    def _page(self, prefix: str, most: int, markers: _Query) -> ET.Element:
        query = [_ENCODED, ("list-type", "2"), ("max-keys", str(most)), ("prefix", self._prefix + prefix), *markers]
        request = Request("GET", f"listing {self._where(prefix)}", None, "s3:ListBucket", query=query)
        return self._client.answer(request, "ListBucketResult")

    def _where(self, prefix: str) -> str:
        return repr(f"s3://{self._client.bucket}/{self._prefix}{prefix}")


def _marker(root: ET.Element, name: str) -> str:
    return _key(root, root, name) if name == "NextKeyMarker" else messages.text_of(root, name)


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
