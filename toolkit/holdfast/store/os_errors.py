"""Turn an OSError about a file into a StoreError with advice."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from holdfast.errors import AccessDeniedError, FileChangedError, PermanentStoreError, StoreError, TransientStoreError

# From a network file system in trouble: the same call may succeed a moment later.
_TRANSIENT = {errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN}
_ADVICE = {
    errno.ENOSPC: "; make room on that file system",
    errno.EDQUOT: "; raise the quota of that file system",
    errno.EROFS: "; mount it writable",
    errno.EMFILE: "; raise the limit of open files",
}


def os_error(error: OSError, path: Path, doing: str) -> StoreError:
    """Return the StoreError for an operating system error; `doing` is a verb, such as "read"."""
    message = f"cannot {doing} {path}: {error.strerror or error}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return AccessDeniedError(f"{message}; allow user {os.geteuid()} to do so")
    if error.errno in _TRANSIENT:
        return TransientStoreError(message)
    return PermanentStoreError(message + _ADVICE.get(error.errno or 0, ""))


@contextmanager
def os_errors(path: Path, doing: str) -> Iterator[None]:
    """Raise operating system errors inside the `with` as StoreErrors; the arguments are those of `os_error`."""
    try:
        yield
    except OSError as error:
        raise os_error(error, path, doing) from error


@contextmanager
def opened(path: Path, flags: int, doing: str) -> Iterator[int]:
    """Open a file for the `with`, and return its descriptor; `flags` are those of `os.open`."""
    with os_errors(path, doing):
        descriptor = os.open(path, flags, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the operating system's errors about a file to be sent into ours; one that is gone is a FileChangedError."""
    with os_errors(path, "read"):
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileChangedError(f"{path} is gone") from error
