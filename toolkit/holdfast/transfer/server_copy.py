"""Copy objects of any size inside a store."""

from __future__ import annotations

from functools import partial
from operator import attrgetter

from holdfast.errors import PermanentStoreError
from holdfast.store import Condition, Content, Metadata, ObjectRange
from holdfast.transfer.parallel import Transfer, drop, look
from holdfast.transfer.parts import part_size, ranges

SINGLE_COPY = 64 << 20
"""An object smaller than this many bytes is one request to copy; the parts of a larger one are copied side by side."""


def copy_object(
    transfer: Transfer,
    source: Content,
    key: str,
    *,
    metadata: Metadata | None = None,
    condition: Condition | None = None,
) -> str:
    """Copy an object of any size to another key inside the store, visible whole or not at all, and return its ETag.

    Args:
        transfer: its `progress` is not called: no bytes travel.
        source: what to copy. The store compares the copy of a large object with its checksum.
        metadata: user metadata of the copy; that of the source is not copied.

    Raises:
        NotFoundError: the source does not exist.
        DamagedError: the source has other content.
        AlreadyExistsError: at `key` lies what the condition does not allow; with `Replaces` also: nothing.
        StoppedError: stopped. Nothing became visible.
    """
    store, doing = transfer.store, f"copying {source.key!r} to {key!r}"
    transfer.stop.refuse_if_stopped(doing)
    if source.key == key:
        raise PermanentStoreError(f"{key!r} cannot be copied onto itself")
    look(store, key, condition)
    if source.size < SINGLE_COPY:
        return store.copy(source, key, metadata=metadata, condition=condition)
    upload = store.begin_upload(key, part_size=part_size(source.size), metadata=metadata)
    try:
        wanted = (
            ObjectRange(key=source.key, etag=source.etag, offset=start, size=length)
            for start, length in ranges(source.size)
        )
        jobs = (partial(store.put_part_copy, upload, number, part) for number, part in enumerate(wanted, start=1))
        stored = sorted(transfer.run(jobs, doing), key=attrgetter("number"))
        look(store, key, condition)
        return store.complete_upload(upload, stored, crc64nvme=source.crc64nvme, condition=condition)
    except BaseException as error:
        drop(store, upload, error)
        raise
