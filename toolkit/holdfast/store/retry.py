"""Repeat requests that fail transiently: a store around a store."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from holdfast.checksum import crc64nvme as checksum_of
from holdfast.errors import AlreadyExistsError, DamagedError, NotFoundError, StoreError, TransientStoreError
from holdfast.stop import NEVER, StopToken
from holdfast.store import (
    Condition,
    Content,
    Metadata,
    ObjectInfo,
    ObjectRange,
    Part,
    Sink,
    Store,
    StoredPart,
    UnfinishedUpload,
    Upload,
)
from holdfast.store.backoff import Retries, RetryPolicy

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

WARNING_SECONDS = 30.0
"""Seconds between two warnings: 1,000 requests fail for one reason."""


class RetryingStore:
    """A store that repeats the requests of another one as a policy says.

    A repeated write that finds its own object has succeeded, also when the source or the upload is gone by then; so has
    a repeated deletion that finds none. A repeated `begin_upload` may leave an upload that is never completed.
    """

    def __init__(
        self,
        store: Store,
        policy: RetryPolicy | None = None,
        *,
        stop: StopToken = NEVER,
        sleep: Callable[[float], object] = time.sleep,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._warned = -math.inf
        self._lock = threading.Lock()
        policy = policy or RetryPolicy()
        self._begin = partial(Retries, policy=policy, stop=stop, warn=self._warn, sleep=sleep, random=random)

    def _warn(self, error: TransientStoreError) -> None:
        """Log a failure: as a warning, or for debugging within `WARNING_SECONDS` of the last warning."""
        with self._lock:
            repeated = time.monotonic() - self._warned < WARNING_SECONDS
            if not repeated:
                self._warned = time.monotonic()
        _LOG.log(logging.DEBUG if repeated else logging.WARNING, "%s; trying again", error)

    def _repeat(self, request: Callable[[], T], own: Callable[[], T | None] = lambda: None) -> T:
        """Repeat a request.

        Args:
            own: returns the result where an earlier try has succeeded, although its answer was lost.
        """
        retries = self._begin()
        while True:
            try:
                return request()
            except TransientStoreError as error:
                retries.pause_after(error)
            except (AlreadyExistsError, NotFoundError, DamagedError):
                result = own() if retries.failed else None
                if result is None:
                    raise
                return result

    def _listed(self, entries: Callable[[], Iterator[T]], is_new: Callable[[T], bool]) -> Iterator[T]:
        """Yield all entries. After a failure the listing starts again, and skips what was yielded already."""
        retries = self._begin()
        while True:
            try:
                for entry in entries():
                    if is_new(entry):
                        yield entry
                        retries.note_progress()  # after the yield: the time of the caller is not that of the store
            except TransientStoreError as error:
                retries.pause_after(error)
            else:
                return

    def check(self) -> None:
        self._repeat(self._store.check)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        last = b""

        def is_new(info: ObjectInfo) -> bool:
            nonlocal last
            before, last = last, max(last, info.key.encode("utf-8", "surrogateescape"))
            return last > before

        return self._listed(lambda: self._store.list(prefix), is_new)

    def head(self, key: str) -> ObjectInfo:
        return self._repeat(lambda: self._store.head(key))

    def read(self, key: str, *, offset: int = 0, size: int | None = None, etag: str | None = None, sink: Sink) -> None:
        """After a failure continue behind the last byte that the sink got."""
        if etag is None:  # both halves must come from the same content, and be all of it
            info = self.head(key)
            etag = info.etag
            if size is None and offset <= info.size:
                size = info.size - offset
        retries = self._begin()
        done = 0

        def counting(block: memoryview) -> None:
            nonlocal done
            sink(block)
            done += len(block)
            retries.note_progress()

        while True:
            try:
                left = None if size is None else size - done
                self._store.read(key, offset=offset + done, size=left, etag=etag, sink=counting)
            except TransientStoreError as error:
                if size is not None and done == size > 0:
                    return
                retries.pause_after(error)
            else:
                return

    def put(self, key: str, part: Part, *, metadata: Metadata | None = None, condition: Condition | None = None) -> str:
        return self._repeat(
            lambda: self._store.put(key, part, metadata=metadata, condition=condition),
            lambda: self._own(key, part.size, part.crc64nvme, metadata),
        )

    def copy(
        self, source: Content, key: str, *, metadata: Metadata | None = None, condition: Condition | None = None
    ) -> str:
        return self._repeat(
            lambda: self._store.copy(source, key, metadata=metadata, condition=condition),
            lambda: self._own(key, source.size, source.crc64nvme, metadata),
        )

    def begin_upload(self, key: str, *, part_size: int, metadata: Metadata | None = None) -> Upload:
        return self._repeat(lambda: self._store.begin_upload(key, part_size=part_size, metadata=metadata))

    def put_part(self, upload: Upload, number: int, part: Part) -> StoredPart:
        return self._repeat(lambda: self._store.put_part(upload, number, part))

    def put_part_copy(self, upload: Upload, number: int, source: ObjectRange) -> StoredPart:
        return self._repeat(lambda: self._store.put_part_copy(upload, number, source))

    def complete_upload(
        self, upload: Upload, parts: Sequence[StoredPart], *, crc64nvme: int, condition: Condition | None = None
    ) -> str:
        return self._repeat(
            lambda: self._store.complete_upload(upload, parts, crc64nvme=crc64nvme, condition=condition),
            lambda: self._own(upload.key, sum(part.size for part in parts), crc64nvme, upload.metadata),
        )

    def abort_upload(self, upload: Upload) -> None:
        self._repeat(lambda: self._store.abort_upload(upload))

    def unfinished_uploads(self) -> Iterator[UnfinishedUpload]:
        yielded = set[tuple[str, str]]()

        def is_new(unfinished: UnfinishedUpload) -> bool:
            before = len(yielded)
            yielded.add((unfinished.upload.key, unfinished.upload.id))
            return len(yielded) > before

        return self._listed(self._store.unfinished_uploads, is_new)

    def delete(self, key: str, *, etag: str | None = None) -> None:
        self._repeat(lambda: self._store.delete(key, etag=etag))

    def _own(self, key: str, size: int, crc: int, metadata: Metadata | None) -> str | None:
        """Return the ETag of the object at `key` if it is exactly what this request wrote, else None.

        Size and metadata also fit an earlier version of the same file by the same attempt: the checksum decides. Where
        the store keeps none, the content is read back.
        """
        stored = 0

        def add(block: memoryview) -> None:
            nonlocal stored
            stored = checksum_of(block, stored)

        try:
            info = self.head(key)
            if info.size != size or dict(info.metadata or {}) != dict(metadata or {}):
                return None
            if info.crc64nvme is not None:
                return info.etag if info.crc64nvme == crc else None
            self.read(key, size=info.size, etag=info.etag, sink=add)
        except NotFoundError:
            return None
        except StoreError as error:
            error.add_note(f"while looking whether {key!r} is what an earlier try of the same request wrote")
            raise
        return info.etag if stored == crc else None
