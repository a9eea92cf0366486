"""What lies in the buckets: content in segments, objects by key in order, multipart uploads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

LEAST_PART = 5 << 20  # bytes of every part but the last

_numbers = count(1)


class Space:
    """How much may be stored: a memory file system that is full takes the machine with it.

    Args:
        most: bytes.
    """

    def __init__(self, most: int) -> None:
        self._left = most
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Take some.

        Raises:
            RefusedError: there is not so much left.
        """
        with self._lock:
            if size > self._left:
                raise RefusedError(507, "InsufficientStorage")
            self._left -= size

    def give_back(self, size: int) -> None:
        """Give some back."""
        with self._lock:
            self._left += size


class Content:
    """Immutable bytes as one request sent them: in memory, or in a file that has no name and goes with this object.

    Args:
        pieces: the bytes.
        small: whether they are few enough for memory.
        folder: where the file lies.
        space: that they take.

    Raises:
        RefusedError: there is no more space.
    """

    def __init__(self, pieces: Iterable[memoryview], folder: Path, space: Space, *, small: bool) -> None:
        self.file: int | None = None
        self.memory = b""
        self.size = 0
        self._space = space
        if small:
            self.memory = b"".join(map(bytes, pieces))
            space.take(len(self.memory))
            self.size = len(self.memory)
            return
        self.file = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
        for piece in pieces:
            space.take(len(piece))
            self._write(piece, self.size)
            self.size += len(piece)

    def _write(self, piece: memoryview, offset: int) -> None:
        assert self.file is not None
        while piece:
            written = os.pwrite(self.file, piece, offset)
            piece, offset = piece[written:], offset + written

    def __del__(self) -> None:
        self._space.give_back(self.size)
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
        modified: seconds since 1970, whole ones, as HTTP has them.
    """

    segments: Sequence[Segment]
    etag: str
    part_sizes: Sequence[int] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    modified: int = field(default_factory=lambda: int(time.time()))

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


def new_etag(parts: int = 1) -> str:
    """Return an ETag that no other content has. With its dash no client takes it for an MD5."""
    return f'"{next(_numbers):032x}-{parts}"'


def assemble(upload: MultipartUpload, numbers: Sequence[int], checksums: Mapping[str, str]) -> StoredObject:
    """Make an object of the parts of an upload.

    Raises:
        RefusedError: a part is missing or too small, or they are not in order.
    """
    if not numbers or any(number not in upload.parts for number in numbers):
        raise RefusedError(400, "InvalidPart")
    if list(numbers) != sorted(set(numbers)):
        raise RefusedError(400, "InvalidPartOrder")
    parts = [upload.parts[number] for number in numbers]
    if any(part.size < LEAST_PART for part in parts[:-1]):
        raise RefusedError(400, "EntityTooSmall")
    segments = [segment for part in parts for segment in part.segments]
    return StoredObject(segments, new_etag(len(parts)), [part.size for part in parts], upload.headers, checksums)
