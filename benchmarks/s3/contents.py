"""What lies in the buckets: content in segments, objects by key in order, multipart uploads."""

from __future__ import annotations

import bisect
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

_numbers = count(1)


class Content:
    """Immutable bytes as one request sent them: in memory, or in a file that has no name and goes with this object.

    Args:
        pieces: the bytes.
        small: whether they are few enough for memory.
        folder: where the file lies.
    """

    def __init__(self, pieces: Iterable[memoryview], folder: Path, *, small: bool) -> None:
        self.file: int | None = None
        self.memory = b""
        self.size = 0
        if small:
            self.memory = b"".join(map(bytes, pieces))
            self.size = len(self.memory)
            return
        self.file = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
        for piece in pieces:
            self._write(piece, self.size)
            self.size += len(piece)

    def _write(self, piece: memoryview, offset: int) -> None:
        assert self.file is not None
        while piece:
            written = os.pwrite(self.file, piece, offset)
            piece, offset = piece[written:], offset + written

    def __del__(self) -> None:
        if self.file is not None:
            os.close(self.file)

    def read(self, offset: int, size: int) -> bytes:
        """Return some of the bytes."""
        if self.file is None:
            return self.memory[offset : offset + size]
        return os.pread(self.file, size, offset)


@dataclass(frozen=True, slots=True)
class Segment:
    """A range of a content, and the base64 of its CRC64NVME where that is known."""

    content: Content
    offset: int
    size: int
    crc64nvme: str | None = None


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object, or a part of an upload.

    Attributes:
        segments: its content; those of a multipart upload are its parts.
        etag: with its quotes.
        part_sizes: bytes of each part of the upload that made it; empty when it came in one request.
        headers: what a GET gives back: type, user metadata.
        checksums: those the client named, by their headers.
        modified: seconds since 1970.
    """

    segments: Sequence[Segment]
    etag: str
    part_sizes: Sequence[int] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    modified: float = field(default_factory=time.time)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(segment.size for segment in self.segments)

    def slice(self, offset: int, size: int) -> Iterator[Segment]:
        """Yield what a range of the object consists of."""
        for segment in self.segments:
            if offset < segment.size and size > 0:
                taken = min(size, segment.size - offset)
                crc = segment.crc64nvme if taken == segment.size else None
                yield Segment(segment.content, segment.offset + offset, taken, crc)
                size -= taken
            offset = max(0, offset - segment.size)


@dataclass(frozen=True, slots=True)
class MultipartUpload:
    """An upload under way.

    Attributes:
        key: of the object that it will make.
        headers: that the object will have.
        begun: seconds since 1970.
        wants_crc64nvme: whether it was begun with that algorithm.
        parts: that are there, by number.
    """

    key: str
    headers: Mapping[str, str]
    begun: float
    wants_crc64nvme: bool
    parts: dict[int, StoredObject] = field(default_factory=dict)


class RefusedError(Exception):
    """A request that S3 answers with an error.

    Attributes:
        status: of HTTP.
        code: as S3 names it.
        details: what S3 adds.
    """

    def __init__(self, status: int, code: str, **details: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.details = details


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
    """Every bucket there can be: one that nobody has named yet is empty.

    Args:
        folder: where larger contents lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._buckets: defaultdict[str, Bucket] = defaultdict(Bucket)

    def __getitem__(self, name: str) -> Bucket:
        return self._buckets[name]

    def names(self) -> list[str]:
        """Those that somebody has named."""
        return sorted(self._buckets)

    def forget(self, name: str) -> None:
        """Drop a bucket and all that lies in it."""
        self._buckets.pop(name, None)


def new_etag(parts: int = 1) -> str:
    """Return an ETag that no other content has. With its dash no client takes it for an MD5."""
    return f'"{next(_numbers):032x}-{parts}"'


def assemble(upload: MultipartUpload, numbers: Sequence[int], checksums: Mapping[str, str]) -> StoredObject:
    """Make an object of the parts of an upload.

    Raises:
        RefusedError: a part is missing, or they are not in order.
    """
    if not numbers or any(number not in upload.parts for number in numbers):
        raise RefusedError(400, "InvalidPart")
    if list(numbers) != sorted(set(numbers)):
        raise RefusedError(400, "InvalidPartOrder")
    parts = [upload.parts[number] for number in numbers]
    segments = [segment for part in parts for segment in part.segments]
    return StoredObject(segments, new_etag(len(parts)), [part.size for part in parts], upload.headers, checksums)
