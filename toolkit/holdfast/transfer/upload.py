"""Upload files of any size, in parts, with bounded memory."""

from __future__ import annotations

from pathlib import Path

from holdfast.errors import FileChangedError
from holdfast.store import Condition, Metadata
from holdfast.store.os_errors import reading
from holdfast.transfer.content_index import ContentIndex
from holdfast.transfer.multipart_upload import MultipartUpload
from holdfast.transfer.parallel import Transfer
from holdfast.transfer.parts import PartSums, whole_file

SINGLE_PUT = 64 << 20
"""A file of fewer bytes is uploaded with one request: atomic, and nothing to abort."""


def upload_file(
    transfer: Transfer,
    key: str,
    path: Path,
    *,
    size: int,
    metadata: Metadata | None = None,
    condition: Condition | None = None,
) -> str:
    """Store a file of `size` bytes, visible whole or not at all, and return its ETag.

    Raises:
        FileChangedError: the file has another size, or changed while it was read. Nothing became visible.
        AlreadyExistsError: the condition does not hold.
        StoppedError: stopped. Nothing became visible.
    """
    transfer.stop.refuse_if_stopped(f"storing {path}")
    if size < SINGLE_PUT:
        etag = transfer.store.put(key, whole_file(path, size=size), metadata=metadata, condition=condition)
        transfer.progress(size)
        return etag
    before = _look(path)

    def refuse_if_changed() -> None:
        if _look(path) != before or before[0] != size:
            raise FileChangedError(f"{path} changed while it was read")

    refuse_if_changed()
    upload = MultipartUpload(
        transfer=transfer, sums=PartSums(path, size), known=ContentIndex(), refuse_if_changed=refuse_if_changed
    )
    return upload.to(key, metadata=metadata, condition=condition).etag


def _look(path: Path) -> tuple[int, int, int, int]:
    with reading(path):
        status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
