"""The buckets: objects by key in order, and uploads under way."""

from __future__ import annotations

import bisect
import threading
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from benchmarks.s3.contents import MultipartUpload, RefusedError, Space, StoredObject


class Bucket:
    """Objects in the order of their keys, and uploads. Safe to use from several threads."""

    def __init__(self) -> None:
        self.uploads: dict[str, MultipartUpload] = {}
        self._objects: dict[str, StoredObject] = {}
        self._keys: list[str] = []
        self._lock = threading.Lock()

    def get(self, key: str) -> StoredObject:
        """Return an object.

        Raises:
            RefusedError: there is none.
        """
        try:
            return self._objects[key]
        except KeyError:
            raise RefusedError(404, "NoSuchKey") from None

    def upload(self, identity: str) -> MultipartUpload:
        """Return an upload under way.

        Raises:
            RefusedError: there is none.
        """
        try:
            return self.uploads[identity]
        except KeyError:
            raise RefusedError(404, "NoSuchUpload") from None

    def put(self, key: str, stored: StoredObject, headers: Mapping[str, str]) -> None:
        """Put an object at a key, if the conditions in the headers of the request hold.

        Raises:
            RefusedError: they do not.
        """
        with self._lock:
            there = self._objects.get(key)
            if headers.get("if-none-match") == "*" and there is not None:
                raise RefusedError(412, "PreconditionFailed")
            self._require_match(there, headers)
            if there is None:
                bisect.insort(self._keys, key)
            self._objects[key] = stored

    def delete(self, key: str, headers: Mapping[str, str]) -> None:
        """Delete an object, if there is one and the conditions hold.

        Raises:
            RefusedError: they do not.
        """
        with self._lock:
            self._require_match(self._objects.get(key), headers)
            if self._objects.pop(key, None) is not None:
                del self._keys[bisect.bisect_left(self._keys, key)]

    def _require_match(self, there: StoredObject | None, headers: Mapping[str, str]) -> None:
        wanted = headers.get("if-match")
        if wanted is None:
            return
        if there is None:
            raise RefusedError(404, "NoSuchKey")
        if wanted not in ("*", there.etag, there.etag.strip('"')):
            raise RefusedError(412, "PreconditionFailed")

    def page(self, prefix: str, after: str, delimiter: str, most: int) -> tuple[list[str], list[str], str | None]:
        """Return keys, common prefixes, and what to go on after when there is more."""
        keys, groups, last = list[str](), list[str](), after
        with self._lock:
            at = max(bisect.bisect_left(self._keys, prefix), bisect.bisect_right(self._keys, after) if after else 0)
            while at < len(self._keys) and self._keys[at].startswith(prefix):
                if len(keys) + len(groups) == most:
                    return keys, groups, last
                key = self._keys[at]
                cut = key.find(delimiter, len(prefix)) if delimiter else -1
                if cut < 0:
                    keys.append(key)
                    last, at = key, at + 1
                else:
                    groups.append(key[: cut + len(delimiter)])
                    last = groups[-1] + "\U0010ffff"
                    at = bisect.bisect_left(self._keys, last)
        return keys, groups, None


class Buckets:
    """Every bucket that is named: empty at first.

    Args:
        folder: where larger contents lie.
        space: for all contents.
    """

    def __init__(self, folder: Path, space: Space) -> None:
        self.folder = folder
        self.space = space
        self._buckets: defaultdict[str, Bucket] = defaultdict(Bucket)

    def __getitem__(self, name: str) -> Bucket:
        return self._buckets[name]

    def names(self) -> list[str]:
        """Return the buckets that were named."""
        return sorted(self._buckets)

    def forget(self, name: str) -> None:
        """Drop a bucket and all that lies in it."""
        self._buckets.pop(name, None)
