"""Objects in S3 or in a directory, behind one protocol: the requests that every store answers.

Keys are relative to the prefix of the store's location. Every method is one request (or a few system calls), so that
`holdfast.store.retry` can repeat any of them. Operations of many requests, such as a large upload, are in
`holdfast.transfer`. Implementations are safe to use from several threads.

A store checks a `Condition`, and the `etag` of a deletion, in the same step as the write: AWS does. docs/reliability.md
lists the servers that ignore some of them. A directory needs two steps for `Replaces` and for a deletion, under a lock
where the file system has locks.

All methods raise `TransientStoreError` where a repetition may help and a `PermanentStoreError` where it will not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Protocol

from holdfast.checksum import crc64nvme as checksum_of

Sink = Callable[[memoryview], None]
Metadata = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """The description of an object by its store.

    Attributes:
        etag: the store's name for this content; compare for equality only.
        modified: seconds since the epoch, by the store's clock.
        metadata: user metadata, names in lower case; None from `list`.
        crc64nvme: checksum of the content, from `head`; None where the store keeps none.
    """

    key: str
    size: int
    etag: str
    modified: float
    _: KW_ONLY
    metadata: Metadata | None = None
    crc64nvme: int | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """The expected content of an object: its key, its ETag, its size in bytes and its CRC64NVME."""

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
    """A range of a local file, or bytes in memory, to be stored.

    Attributes:
        source: the path of a file, or the bytes.
        crc64nvme: checksum of the range, sent along so that the server refuses damaged bytes.
        read: whether bytes in memory were read from a file, so that the upload limit applies to them (default False).
    """

    source: Path | bytes
    offset: int
    size: int
    crc64nvme: int
    _: KW_ONLY
    read: bool = False

    @classmethod
    def of(cls, content: bytes) -> Part:
        """Return bytes in memory as a part."""
        return cls(content, 0, len(content), checksum_of(content))


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRange:
    """A range of at least one byte of an object with the expected content; its checksum is None when it is unknown."""

    key: str
    etag: str
    offset: int
    size: int
    crc64nvme: int | None = None


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A stored part of a multipart upload.

    Its checksum is None for a copied range whose checksum neither the caller nor the store computed.
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
    """An upload that has begun and was not completed; it takes room until it is aborted.

    Attributes:
        upload: the argument of `abort_upload`. Its metadata is unknown, and its key is empty for a file that a killed
            process left in a directory.
        began: seconds since the epoch, by the store's clock. Another process may still be writing it.
    """

    upload: Upload
    began: float


class Store(Protocol):
    """Objects under one prefix."""

    def check(self) -> None:
        """Check that the bucket or directory exists and may be listed, with one cheap request.

        Raises:
            NoBucketError: there is no such bucket or directory.
            AccessDeniedError: it may not be listed.
        """

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object whose key starts with `prefix`, in the order of the keys' UTF-8 bytes; metadata is None.

        Hostile or odd keys (`..`, `//`, control characters) are yielded as they are; the caller must check them.
        """

    def head(self, key: str) -> ObjectInfo:
        """Return the description of an object, with its metadata. Raises NotFoundError."""

    def read(self, key: str, *, offset: int = 0, size: int | None = None, etag: str | None = None, sink: Sink) -> None:
        """Pass a range of an object to `sink`, block by block (the memoryview is only valid during the call).

        Args:
            offset: first byte (default 0).
            size: number of bytes; None for all that follow. Fewer bytes than requested is a TransientStoreError.
            etag: of the expected content; another one is a DamagedError. None: any.
            sink: called with each block in order. After an error no block may be used.
        """

    def put(self, key: str, part: Part, *, metadata: Metadata | None = None, condition: Condition | None = None) -> str:
        """Store a whole object in one request (up to 5 GB on S3) and return its ETag.

        Visible whole or not at all. Raises AlreadyExistsError when the condition does not hold, and FileChangedError
        when the file no longer holds the bytes that `part.crc64nvme` was computed from.
        """

    def copy(
        self, source: Content, key: str, *, metadata: Metadata | None = None, condition: Condition | None = None
    ) -> str:
        """Copy an object to another key inside the store, in one request (up to 5 GB on S3), and return its ETag.

        Visible whole or not at all, with its own metadata only. Its checksum, where the store returns one, is compared
        with that of the source. The keys differ (PermanentStoreError).

        Raises:
            NotFoundError: there is no source.
            DamagedError: the source has other content, or the copy has another checksum: then the copy is at `key` on
                S3, and in a directory it is not.
            AlreadyExistsError: the condition does not hold.
        """

    def begin_upload(self, key: str, *, part_size: int, metadata: Metadata | None = None) -> Upload:
        """Begin a multipart upload. All its parts but the last have `part_size` bytes, at least 5 MiB."""

    def put_part(self, upload: Upload, number: int, part: Part) -> StoredPart:
        """Store one part: `number` is 1 to 10,000. Raises FileChangedError as `put`."""

    def put_part_copy(self, upload: Upload, number: int, source: ObjectRange) -> StoredPart:
        """Make a range of an object in the store a part of an upload; sizes and numbers as `put_part`.

        S3 accepts only objects larger than 5 MiB. The upload's key may be the source's. The checksum that the store
        computes is compared with that of the range, where there is one.

        Raises:
            NotFoundError: there is no source, or the upload has ended.
            DamagedError: the source has other content, or the range has another checksum.
        """

    def complete_upload(
        self, upload: Upload, parts: Sequence[StoredPart], *, crc64nvme: int, condition: Condition | None = None
    ) -> str:
        """Make the upload visible as one object, compare it with the checksum of the whole, and return its ETag.

        Raises AlreadyExistsError as `copy`, and NotFoundError when the upload has ended.
        """

    def abort_upload(self, upload: Upload) -> None:
        """Delete a multipart upload and its parts. A missing one is not an error."""

    def unfinished_uploads(self) -> Iterator[UnfinishedUpload]:
        """Yield every upload below the prefix that has begun and was neither completed nor aborted, in any order."""

    def delete(self, key: str, *, etag: str | None = None) -> None:
        """Delete an object, with `etag` only that content (else AlreadyExistsError). A missing one is not an error."""
