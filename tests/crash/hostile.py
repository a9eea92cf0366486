"""S3's semantics in memory, for what no file system can hold: any key, and any content behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from holdfast.errors import AlreadyExistsError, DamagedError, NotFoundError, TransientStoreError
from holdfast.store import (
    Absent,
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


@dataclass
class Bucket:
    """A bucket that another writer has filled before.

    Attributes:
        objects: key → content and user metadata. The ETag is the content's hash.
        deleted: keys that were deleted by us.
    """

    objects: dict[str, tuple[bytes, Mapping[str, str]]] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)

    def check(self) -> None:
        pass

    def etag(self, key: str) -> str:
        return f'"{hash(self.objects[key][0]):x}"'

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for key in sorted(self.objects, key=lambda key: key.encode("utf-8", "surrogatepass")):
            if key.startswith(prefix):
                yield ObjectInfo(key, len(self.objects[key][0]), self.etag(key), 1.79e9)

    def head(self, key: str) -> ObjectInfo:
        content, metadata = self._found(key)
        return ObjectInfo(key, len(content), self.etag(key), 1.79e9, metadata=metadata)

    def _found(self, key: str) -> tuple[bytes, Mapping[str, str]]:
        if key not in self.objects:
            raise NotFoundError(f"there is no object {key!r}")
        return self.objects[key]

    def _expect(self, key: str, etag: str | None) -> bytes:
        content, _ = self._found(key)
        if etag not in (None, self.etag(key)):
            raise DamagedError(f"object {key!r} is other content")
        return content

    def read(self, key: str, *, offset: int = 0, size: int | None = None, etag: str | None = None, sink: Sink) -> None:
        content = self._expect(key, etag)
        if size is not None and offset + size > len(content):
            raise TransientStoreError(f"object {key!r} is shorter")
        if piece := content[offset:] if size is None else content[offset : offset + size]:
            sink(memoryview(piece))

    def put(self, key: str, part: Part, *, metadata: Metadata | None = None, condition: Condition | None = None) -> str:
        content = part.source if isinstance(part.source, bytes) else part.source.read_bytes()
        return self._store(key, content[part.offset :][: part.size], metadata, condition)

    def _store(self, key: str, content: bytes, metadata: Metadata | None, condition: Condition | None) -> str:
        if key in self.objects and isinstance(condition, Absent):
            raise AlreadyExistsError(f"there is an object at {key!r}")
        if isinstance(condition, Replaces) and (key not in self.objects or self.etag(key) != condition.etag):
            raise AlreadyExistsError(f"there is another object at {key!r}")
        self.objects[key] = (content, dict(metadata or {}))
        return self.etag(key)

    def copy(
        self, source: Content, key: str, *, metadata: Metadata | None = None, condition: Condition | None = None
    ) -> str:
        return self._store(key, self._expect(source.key, source.etag), metadata, condition)

    def begin_upload(self, key: str, *, part_size: int, metadata: Metadata | None = None) -> Upload:
        raise NotImplementedError("these objects are small")

    def put_part(self, upload: Upload, number: int, part: Part) -> StoredPart:
        raise NotImplementedError("these objects are small")

    def put_part_copy(self, upload: Upload, number: int, source: ObjectRange) -> StoredPart:
        raise NotImplementedError("these objects are small")

    def complete_upload(
        self, upload: Upload, parts: Sequence[StoredPart], *, crc64nvme: int, condition: Condition | None = None
    ) -> str:
        raise NotImplementedError("these objects are small")

    def abort_upload(self, upload: Upload) -> None:
        pass

    def unfinished_uploads(self) -> Iterator[UnfinishedUpload]:
        yield from ()

    def delete(self, key: str, *, etag: str | None = None) -> None:
        if key not in self.objects:
            return
        if etag not in (None, self.etag(key)):
            raise AlreadyExistsError(f"there is another object at {key!r}")
        self.deleted.append(key)
        del self.objects[key]
