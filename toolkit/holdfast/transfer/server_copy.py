"""Copy objects of any size inside a store."""

from __future__ import annotations

from concurrent.futures import Executor
from functools import partial

from holdfast.errors import PermanentStoreError
from holdfast.stop import NEVER, StopToken
from holdfast.store import Condition, Content, Metadata, ObjectRange, Store
from holdfast.transfer.parallel import dropped_on_failure, look, side_by_side
from holdfast.transfer.parts import ranges

SINGLE_COPY = 64 << 20
"""An object smaller than this many bytes is one request to copy; the parts of a larger one are copied side by side."""


def copy_object(
    store: Store,
    source: Content,
    key: str,
    *,
    metadata: Metadata | None = None,
    condition: Condition | None = None,
    workers: Executor | None = None,
    stop: StopToken = NEVER,
) -> str:
    """Copy an object of any size to another key inside the store, visible whole or not at all, and return its ETag.

    Args:
        store: the store.
        source: what to copy. The store compares the copy of a large object with its checksum.
        key: key of the copy.
        metadata: user metadata of the copy; that of the source is not copied.
        condition: what must lie at `key`.
        workers: executor for the parts of a large object (default: one after the other, in this thread).
        stop: ends it between two parts.

    Raises:
        NotFoundError: the source does not exist.
        DamagedError: the source has other content.
        AlreadyExistsError: at `key` lies what the condition does not allow; with `Replaces` also: nothing.
        StoppedError: stopped by `stop`. Nothing became visible.
        StoreError: the store did not copy it.
    """
    doing = f"copying {source.key!r} to {key!r}"
    stop.refuse_if_stopped(doing)
    if source.key == key:
        raise PermanentStoreError(f"{key!r} cannot be copied onto itself")
    look(store, key, condition)
    if source.size < SINGLE_COPY:
        return store.copy(source, key, metadata=metadata, condition=condition)
    upload = store.begin_upload(key, metadata=metadata)
    with dropped_on_failure(store, upload):
        wanted = (
            ObjectRange(key=source.key, etag=source.etag, offset=start, size=length)
            for start, length in ranges(source.size)
        )
        jobs = (partial(store.put_part_copy, upload, number, part) for number, part in enumerate(wanted, start=1))
        stored = sorted(side_by_side(jobs, workers, stop, doing), key=lambda part: part.number)
        look(store, key, condition)
        return store.complete_upload(upload, stored, crc64nvme=source.crc64nvme, condition=condition)
