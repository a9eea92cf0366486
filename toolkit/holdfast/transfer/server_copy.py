"""Whole objects copied inside a store: what one request of the store protocol cannot do. See `holdfast.transfer`."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from functools import partial

from holdfast.errors import PermanentStoreError
from holdfast.stop import StopQuestion, refuse_if_stopped
from holdfast.store import Store
from holdfast.transfer.parallel import dropped_on_failure, look, side_by_side
from holdfast.transfer.parts import ranges

SINGLE_COPY = 64 << 20
"""An object smaller than this many bytes is one request to copy; the parts of a larger one are copied side by side."""


def copy_object(
    store: Store,
    source: str,
    key: str,
    *,
    etag: str,
    size: int,
    crc64nvme: int,
    metadata: Mapping[str, str] | None = None,
    only_if_absent: bool = False,
    replaces: str | None = None,
    workers: Executor | None = None,
    should_stop: StopQuestion | None = None,
) -> str:
    """Copy an object of any size to another key inside the store, visible whole or not at all, and return its ETag.

    Args:
        store: which store.
        source: the object to copy.
        key: where to.
        etag: the content of the source that is wanted.
        size: its bytes.
        crc64nvme: its checksum, which the copy of a large object is held against by the store.
        metadata: of the copy; that of the source is not copied.
        only_if_absent: leave an object that is there already alone.
        replaces: the ETag of the object that must lie at `key`.
        workers: copies the parts of a large object; None: one after the other, in this thread.
        should_stop: asked between parts.

    Raises:
        NotFoundError: there is no source.
        DamagedError: the source is no longer this content.
        AlreadyExistsError: at `key` lies what the conditions do not allow; with `replaces` also: nothing.
        StoppedError: `should_stop` said yes. Nothing became visible.
        StoreError: the store did not copy it.
    """
    doing = f"copying {source!r} to {key!r}"
    refuse_if_stopped(should_stop, doing)
    if source == key:
        raise PermanentStoreError(f"{key!r} cannot be copied onto itself")
    look(store, key, only_if_absent=only_if_absent, replaces=replaces)
    if size < SINGLE_COPY:
        return store.copy(
            source, key, etag=etag, size=size, crc64nvme=crc64nvme, metadata=metadata,
            only_if_absent=only_if_absent, replaces=replaces,
        )  # fmt: skip
    upload = store.begin_upload(key, metadata=metadata)
    with dropped_on_failure(store, upload):
        jobs = (
            partial(store.put_part_copy, upload, number, source, etag=etag, offset=start, size=length, crc64nvme=None)
            for number, (start, length) in enumerate(ranges(size), start=1)
        )
        stored = sorted(side_by_side(jobs, workers, should_stop, doing), key=lambda part: part.number)
        look(store, key, only_if_absent=only_if_absent, replaces=replaces)
        return store.complete_upload(
            upload, stored, crc64nvme=crc64nvme, only_if_absent=only_if_absent, replaces=replaces
        )
