"""The store protocol: the few things holdfast asks of a place that keeps objects.

Keys are relative to the prefix of the store's location. Every method is one request (or one system call's worth of
work), so that `holdfast.retry` can repeat any of them; what needs many requests, a large upload for one, is built
from these
in `holdfast.transfer`. Implementations are safe to use from several threads.

All methods raise `TransientStoreError` where a repetition may help and a `PermanentStoreError` where it will not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

Sink = Callable[[memoryview], None]


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store knows about an object.

    Attributes:
        key: relative to the prefix.
        size: bytes.
        etag: the store's name for this content; compare for equality only.
        modified: seconds since the epoch, by the store's clock.
        metadata: user metadata, names in lower case; None where it was not asked for (`list`).
    """

    key: str
    size: int
    etag: str
    modified: float
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A range of a local file, or bytes in memory, about to be stored.

    Attributes:
        source: an open file's path, or the bytes themselves.
        offset: first byte of the range in the file (0 for bytes).
        size: bytes in the range.
        crc64nvme: checksum of the range, sent along so that the server refuses what arrives damaged.
    """

    source: Path | bytes
    offset: int
    size: int
    crc64nvme: int


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part of a multipart upload that the store has."""

    number: int
    etag: str
    size: int
    crc64nvme: int


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload that has begun."""

    key: str
    id: str
    metadata: Mapping[str, str] = field(default_factory=dict)


class Store(Protocol):
    """A place that keeps objects under one prefix."""

    def check(self) -> None:
        """Prove that the place exists and may be read, with one cheap request.

        Raises:
            NoBucketError: there is no such bucket or directory.
            AccessDeniedError: it may not be listed.
        """
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object whose key starts with `prefix`, in the order of the keys' UTF-8 bytes; metadata is None.

        Hostile or odd keys (`..`, `//`, control characters) are yielded as they are: judging them is the caller's work.
        """
        ...

    def head(self, key: str) -> ObjectInfo:
        """Describe one object, its metadata included. Raises NotFoundError."""
        ...

    def read(self, key: str, *, offset: int = 0, size: int | None = None, etag: str | None = None, sink: Sink) -> None:
        """Hand a range of an object to `sink`, piece by piece (the memoryview is only valid during the call).

        Args:
            key: which object.
            offset: first byte.
            size: how many bytes; None for all that follow. Fewer bytes than asked for is a TransientStoreError.
            etag: fail with DamagedError if the object is no longer this content.
            sink: called with each piece in order. After an error nothing that it got may be used.
        """
        ...

    def put(
        self, key: str, part: Part, *, metadata: Mapping[str, str] | None = None, only_if_absent: bool = False
    ) -> str:
        """Store a whole object in one request (up to 5 GB on S3) and return its ETag.

        Visible whole or not at all. Raises AlreadyExistsError when `only_if_absent` finds the key taken, and
        FileChangedError when the file no longer holds the bytes that `part.crc64nvme` was computed from.
        """
        ...

    def begin_upload(self, key: str, *, metadata: Mapping[str, str] | None = None) -> Upload:
        """Begin a multipart upload; nothing becomes visible before `complete_upload`."""
        ...

    def put_part(self, upload: Upload, number: int, part: Part) -> StoredPart:
        """Store one part: `number` is 1 to 10,000; all but the last are of the same size, at least 5 MiB.

        Raises FileChangedError as `put`.
        """
        ...

    def complete_upload(
        self, upload: Upload, parts: Sequence[StoredPart], *, crc64nvme: int, only_if_absent: bool = False
    ) -> str:
        """Make the upload visible as one object, checked against the checksum of the whole, and return its ETag."""
        ...

    def abort_upload(self, upload: Upload) -> None:
        """Drop a multipart upload and its parts. One that is gone already is no error."""
        ...

    def delete(self, key: str) -> None:
        """Delete an object. One that is gone already is no error."""
        ...
