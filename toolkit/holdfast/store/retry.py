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

    Args:
        policy: how often and how long; None for the default.
        sleep: waits the given seconds.
        random: returns a number from 0 to 1.
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
        self._begin = partial(
            Retries,
            policy or RetryPolicy(),
            stop=stop,
            warn=self._warn,
            sleep=sleep,
            random=random,
        )

    def _warn(self, error: TransientStoreError) -> None:
        """Log a failure: as a warning, or for debugging within `WARNING_SECONDS` of the last warning."""
        with self._lock:
            repeated = time.monotonic() - self._warned < WARNING_SECONDS
            if not repeated:
                self._warned = time.monotonic()
        _LOG.log(logging.DEBUG if repeated else logging.WARNING, "%s; trying again", error)

    def _repeat(self, request: Callable[[], T]) -> T:
        retries = self._begin()
        while True:
            try:
                return request()
            except TransientStoreError as error:
                retries.pause_after(error)

    def check(self) -> None:
        """As `Store.check`."""
        self._repeat(self._store.check)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """As `Store.list`. After a failure the listing starts again, and skips what was yielded already."""
        retries = self._begin()
        last: bytes | None = None
        while True:
            try:
                for info in self._store.list(prefix):
                    key = info.key.encode("utf-8", "surrogateescape")
                    if last is not None and key <= last:
                        continue
                    last = key
                    yield info
                    retries.note_progress()  # after the yield: the time of the caller is not that of the store
            except TransientStoreError as error:
                retries.pause_after(error)
            else:
                return

    def head(self, key: str) -> ObjectInfo:
        """As `Store.head`."""
        return self._repeat(lambda: self._store.head(key))

    def read(self, key: str, *, offset: int = 0, size: int | None = None, etag: str | None = None, sink: Sink) -> None:
        """As `Store.read`. After a failure it continues behind the last byte that the sink got.

        Both halves must come from the same content, and be all of it: without an ETag, a HEAD returns ETag and size
        first.
        """
        pinned = etag
        if pinned is None:
            info = self.head(key)
            pinned = info.etag
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
                self._store.read(key, offset=offset + done, size=left, etag=pinned, sink=counting)
            except TransientStoreError as error:
                if size is not None and done == size > 0:
                    return
                retries.pause_after(error)
            else:
                return

    def put(self, key: str, part: Part, *, metadata: Metadata | None = None, condition: Condition | None = None) -> str:
        """As `Store.put`. A repeated conditional put that finds its own object has succeeded."""
        return self._repeat_write(
            lambda: self._store.put(key, part, metadata=metadata, condition=condition),
            lambda: self._own(key, part.size, part.crc64nvme, metadata),
        )

    def copy(
        self, source: Content, key: str, *, metadata: Metadata | None = None, condition: Condition | None = None
    ) -> str:
        """As `Store.copy`. A repeated copy that finds its own object has succeeded, also when the source is gone."""
        return self._repeat_write(
            lambda: self._store.copy(source, key, metadata=metadata, condition=condition),
            lambda: self._own(key, source.size, source.crc64nvme, metadata),
        )

    def begin_upload(self, key: str, *, metadata: Metadata | None = None) -> Upload:
        """As `Store.begin_upload`. A lost answer may leave an upload that is never completed."""
        return self._repeat(lambda: self._store.begin_upload(key, metadata=metadata))

    def put_part(self, upload: Upload, number: int, part: Part) -> StoredPart:
        """As `Store.put_part`."""
        return self._repeat(lambda: self._store.put_part(upload, number, part))

    def put_part_copy(self, upload: Upload, number: int, source: ObjectRange) -> StoredPart:
        """As `Store.put_part_copy`."""
        return self._repeat(lambda: self._store.put_part_copy(upload, number, source))

    def complete_upload(
        self, upload: Upload, parts: Sequence[StoredPart], *, crc64nvme: int, condition: Condition | None = None
    ) -> str:
        """As `Store.complete_upload`. A repetition that finds its own object instead of the upload has succeeded."""
        return self._repeat_write(
            lambda: self._store.complete_upload(upload, parts, crc64nvme=crc64nvme, condition=condition),
            lambda: self._own(upload.key, sum(part.size for part in parts), crc64nvme, upload.metadata),
        )

    def abort_upload(self, upload: Upload) -> None:
        """As `Store.abort_upload`."""
        self._repeat(lambda: self._store.abort_upload(upload))

    def unfinished_uploads(self) -> Iterator[UnfinishedUpload]:
        """As `Store.unfinished_uploads`. What was yielded before a failure is skipped, as in `list`."""
        retries = self._begin()
        seen: set[tuple[str, str]] = set()
        while True:
            try:
                for unfinished in self._store.unfinished_uploads():
                    name = (unfinished.upload.key, unfinished.upload.id)
                    if name not in seen:
                        seen.add(name)
                        yield unfinished
                        retries.note_progress()
            except TransientStoreError as error:
                retries.pause_after(error)
            else:
                return

    def delete(self, key: str, *, etag: str | None = None) -> None:
        """As `Store.delete`. A repetition that finds no object has succeeded."""
        self._repeat(lambda: self._store.delete(key, etag=etag))

    def _repeat_write(self, request: Callable[[], str], own: Callable[[], str | None]) -> str:
        """Repeat a write whose answer may have been lost after it was done."""
        retries = self._begin()
        while True:
            try:
                return request()
            except TransientStoreError as error:
                retries.pause_after(error)
            except (AlreadyExistsError, NotFoundError, DamagedError):
                etag = own() if retries.failed else None
                if etag is None:
                    raise
                return etag

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
