"""The store protocol: the few things holdfast asks of a place that keeps objects.

Keys are relative to the prefix of the store's location. Every method is one request (or one system call's worth of
work), so that `holdfast.retry` can repeat any of them; what needs many requests, a large upload for one, is built
from these in `holdfast.transfer`. Implementations are safe to use from several threads.

A `Condition` and the `etag` of a deletion are the store's to keep, in the same step as the deed: AWS does. Which other
servers ignore which of them, docs/reliability.md says; a directory looks and acts in two steps for `Replaces` and for a
deletion, under a lock where the file system has locks.

All methods raise `TransientStoreError` where a repetition may help and a `PermanentStoreError` where it will not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from holdfast.checksum import crc64nvme as checksum_of

Sink = Callable[[memoryview], None]
Metadata = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store knows about an object.

    Attributes:
        key: relative to the prefix.
        size: bytes.
        etag: the store's name for this content; compare for equality only.
        modified: seconds since the epoch, by the store's clock.
        metadata: user metadata, names in lower case; None where it was not asked for (`list`).
        crc64nvme: checksum of the content as `head` gets it; None where the store keeps none.
    """

    key: str
    size: int
    etag: str
    modified: float
    metadata: Metadata | None = None
    crc64nvme: int | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """What an object at a key must hold: its ETag, its size in bytes and its CRC64NVME."""

    key: str
    etag: str
    size: int
    crc64nvme: int


@dataclass(frozen=True, slots=True)
class Absent:
    """A write succeeds only where the key has no object."""


@dataclass(frozen=True, slots=True)
class Replaces:
    """A write succeeds only where the object at the key has this ETag."""

    etag: str


Condition = Absent | Replaces


@dataclass(frozen=True, slots=True)
class Part:
    """A range of a local file, or bytes in memory, about to be stored.

    Attributes:
        source: an open file's path, or the bytes themselves.
        offset: first byte of the range in the file (0 for bytes).
        size: bytes in the range.
        crc64nvme: checksum of the range, sent along so that the server refuses what arrives damaged.
        read: whether bytes in memory are those of a file, which a limit of the bandwidth may hold back.
    """

    source: Path | bytes
    offset: int
    size: int
    crc64nvme: int
    read: bool = False

    @classmethod
    def of(cls, content: bytes) -> Part:
        """Return bytes in memory as a part."""
        return cls(content, 0, len(content), checksum_of(content))


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRange:
    """A range of an object in the store.

    Attributes:
        key: of the object.
        etag: of the content that is wanted.
        offset: first byte of the range.
        size: bytes in the range, at least 1.
        crc64nvme: checksum of the range; None when it is not known.
    """

    key: str
    etag: str
    offset: int
    size: int
    crc64nvme: int | None = None


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part of a multipart upload that the store has.

    Attributes:
        number: 1 to 10,000.
        etag: the store's name for its content.
        size: bytes.
        crc64nvme: checksum; None for a copied range that neither the caller nor the store has summed up.
    """

    number: int
    etag: str
    size: int
    crc64nvme: int | None


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload that has begun."""

    key: str
    id: str
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """Something that was begun, has become no object, and takes room until it is dropped.

    Attributes:
        upload: what `abort_upload` takes. The metadata is not known, nor is the key (empty) of a file that a killed
            process left in a directory.
        began: seconds since the epoch, by the store's clock. It may be under way still: only age tells.
    """

    upload: Upload
    began: float


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

    def put(self, key: str, part: Part, *, metadata: Metadata | None = None, condition: Condition | None = None) -> str:
        """Store a whole object in one request (up to 5 GB on S3) and return its ETag.

        Visible whole or not at all. Raises AlreadyExistsError when the condition does not hold, and FileChangedError
        when the file no longer holds the bytes that `part.crc64nvme` was computed from.
        """
        ...

    def copy(
        self, source: Content, key: str, *, metadata: Metadata | None = None, condition: Condition | None = None
    ) -> str:
        """Copy an object to another key inside the store, in one request (up to 5 GB on S3), and return its ETag.

        Visible whole or not at all.

        Args:
            source: what to copy. The checksum that the store computes of the copy, where it says so, is held against
                its checksum.
            key: where to; never the source itself (PermanentStoreError).
            metadata: of the copy; that of the source is not copied.
            condition: what must lie at `key`.

        Raises:
            NotFoundError: there is no source.
            DamagedError: the source is no longer this content, or the copy has another checksum: then the copy lies at
                `key` on S3, and in a directory it does not.
            AlreadyExistsError: at `key` lies what the condition does not allow; with `Replaces` also: nothing.
        """
        ...

    def begin_upload(self, key: str, *, metadata: Metadata | None = None) -> Upload:
        """Begin a multipart upload; nothing becomes visible before `complete_upload`."""
        ...

    def put_part(self, upload: Upload, number: int, part: Part) -> StoredPart:
        """Store one part: `number` is 1 to 10,000; all but the last are of the same size, at least 5 MiB.

        Raises FileChangedError as `put`.
        """
        ...

    def put_part_copy(self, upload: Upload, number: int, source: ObjectRange) -> StoredPart:
        """Make a range of an object in the store a part of an upload; sizes and numbers as `put_part`.

        S3 takes ranges only of objects that are larger than 5 MiB. The upload's key may be the source's. The checksum
        that the store computes is held against that of the range, where there is one.

        Raises:
            NotFoundError: there is no source, or the upload has ended.
            DamagedError: the source is no longer this content, or the range has another checksum.
        """
        ...

    def complete_upload(
        self, upload: Upload, parts: Sequence[StoredPart], *, crc64nvme: int, condition: Condition | None = None
    ) -> str:
        """Make the upload visible as one object, checked against the checksum of the whole, and return its ETag.

        Raises AlreadyExistsError as `copy`, and NotFoundError when the upload has ended.
        """
        ...

    def abort_upload(self, upload: Upload) -> None:
        """Drop a multipart upload and its parts. One that is gone already is no error."""
        ...

    def unfinished_uploads(self) -> Iterator[UnfinishedUpload]:
        """Yield every upload below the prefix that has begun and was neither completed nor dropped, in any order."""
        ...

    def delete(self, key: str, *, etag: str | None = None) -> None:
        """Delete an object. One that is gone already is no error.

        With `etag` only that content is deleted: when there is another one it stays, and AlreadyExistsError says so.
        """
        ...
