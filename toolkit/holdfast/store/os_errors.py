"""An OSError about a file, as one of our errors."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from holdfast.errors import AccessDeniedError, FileChangedError, PermanentStoreError, StoreError, TransientStoreError

# What a network file system answers when it hiccups: the same call may succeed in a moment.
_TRANSIENT = {errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN}
_ADVICE = {
    errno.ENOSPC: "; make room on that file system",
    errno.EDQUOT: "; raise the quota of that file system",
    errno.EROFS: "; mount it writable",
    errno.EMFILE: "; raise the limit of open files",
}


def os_error(error: OSError, path: Path, doing: str) -> StoreError:
    """Return what an operating system error on `path` means for the one who was `doing` something there."""
    said = f"cannot {doing} {path}: {error.strerror or error}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return AccessDeniedError(f"{said}; allow user {os.geteuid()} to do so")
    if error.errno in _TRANSIENT:
        return TransientStoreError(said)
    return PermanentStoreError(said + _ADVICE.get(error.errno or 0, ""))


@contextmanager
def os_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn the operating system's errors about `path` into ours; the arguments are those of `os_error`."""
    try:
        yield
    except OSError as error:
        raise os_error(error, path, doing) from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the operating system's errors about a file to be sent into ours; one that is gone is a FileChangedError."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileChangedError(f"{path} is gone") from error
    except OSError as error:
        raise os_error(error, path, "read") from error
