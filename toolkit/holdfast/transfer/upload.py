"""Upload files of any size, in parts, with bounded memory.

The functions of this package are synchronous. One that gets an executor must not itself run in that executor, because
it waits for its parts.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

from holdfast.errors import FileChangedError
from holdfast.stop import NEVER, StopToken
from holdfast.store import Condition, Metadata, Store
from holdfast.transfer.content_index import ContentIndex
from holdfast.transfer.multipart_upload import MultipartUpload
from holdfast.transfer.parts import whole_file

Progress = Callable[[int], None]

SINGLE_PUT = 64 << 20
"""A file of fewer bytes is uploaded with one request: atomic, and nothing to abort."""


def upload_file(
    store: Store,
    key: str,
    path: Path,
    *,
    size: int,
    metadata: Metadata | None = None,
    condition: Condition | None = None,
    workers: Executor | None = None,
    progress: Progress | None = None,
    stop: StopToken = NEVER,
) -> str:
    """Store a file, visible whole or not at all, and return its ETag.

    Args:
        store: the store.
        key: key of the object.
        path: the file.
        size: its size in bytes.
        metadata: user metadata.
        condition: what must lie at `key`.
        workers: executor for the parts of a large file (default: one after the other, in this thread).
        progress: called in this thread with the bytes of each part that has arrived.
        stop: ends it between two parts.

    Raises:
        FileChangedError: the file has another size, or changed while it was read. Nothing became visible.
        AlreadyExistsError: the condition does not hold.
        StoppedError: stopped by `stop`. Nothing became visible.
        StoreError: the store did not take it.
    """
    stop.refuse_if_stopped(f"storing {path}")
    if size < SINGLE_PUT:
        etag = store.put(key, whole_file(path, size=size), metadata=metadata, condition=condition)
        (progress or _ignore)(size)
        return etag
    sending = MultipartUpload(
        store,
        path,
        size,
        known=ContentIndex(),
        refuse_if_changed=_guard(path, size),
        workers=workers,
        progress=progress,
        stop=stop,
    )
    return sending.to(key, metadata=metadata, condition=condition).etag


def _guard(path: Path, size: int) -> Callable[[], None]:
    """Return a function that raises FileChangedError when the file has changed, or its size is not `size`."""

    def look() -> tuple[int, int, int, int]:
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileChangedError(f"{path} is gone") from error
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino

    before = look()

    def refuse_if_changed() -> None:
        if look() != before or before[0] != size:
            raise FileChangedError(f"{path} changed while it was read")

    refuse_if_changed()
    return refuse_if_changed


def _ignore(_: int) -> None:
    pass
