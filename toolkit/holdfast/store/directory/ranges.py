"""Copy ranges between open files of a directory store, in the kernel where possible, with their checksum."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from holdfast.checksum import crc64nvme
from holdfast.errors import DamagedError
from holdfast.store.body import BLOCK, range_blocks
from holdfast.store.os_errors import os_errors

# Two file systems, or one without this call: then the bytes go through this process.
_NOT_IN_THE_KERNEL = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


def copy_range(source: int, target: int, path: Path, *, offset: int, size: int, to: int) -> int:
    """Copy a range of an open file into another one, read it back and return its CRC64NVME.

    A file system that can share blocks, or whose server can copy, does so.

    Args:
        offset: first byte in the source.
        to: offset of the first byte in the target.

    Raises:
        DamagedError: the source ends before that.
    """
    done = 0
    with os_errors(path, "copy to"):
        while done < size:
            length = _copy_some(source, target, size - done, offset + done, to + done)
            if length == 0:
                raise DamagedError(f"the copy in {path} ends after {done:,} of {size:,} bytes")
            done += length
    return checksum_range(target, path, offset=to, size=size)


def _copy_some(source: int, target: int, size: int, offset: int, to: int) -> int:
    try:
        return os.copy_file_range(source, target, size, offset, to)
    except OSError as error:
        if error.errno not in _NOT_IN_THE_KERNEL:
            raise
    return os.pwrite(target, os.pread(source, min(size, BLOCK), offset), to)


def checksum_range(descriptor: int, path: Path, *, offset: int, size: int) -> int:
    """Return the CRC64NVME of a range of an open file, up to the end of the file; `path` is for the messages."""
    crc = 0
    for block in range_blocks(descriptor, path, offset, size):
        crc = crc64nvme(block, crc)
    return crc
