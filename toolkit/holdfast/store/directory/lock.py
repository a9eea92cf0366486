"""The lock of a directory store: who looks and then acts does both before anybody else looks."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from holdfast.errors import TransientStoreError
from holdfast.store.os_errors import os_errors

PATIENCE = 5.0
"""Seconds for which one waits for another process: it holds the lock for a look and a rename."""
_PAUSE = 0.002
# A file system without locks, or one whose lock server is not there: then it is a look and an act, as anywhere else.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class Lock:
    """An advisory lock (flock) between all processes that use one directory as a store; a killed one frees it.

    It holds between the processes of one machine, and between machines where the file system passes locks on (NFS,
    EFS). Safe to use from several threads.

    Args:
        path: the file that is locked; its directory is there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own = threading.Lock()
        self._in_vain = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock.

        Raises:
            TransientStoreError: another process does not let go of it. After one such wait nobody waits again until it
                has been free once: a deadline may be near.
        """
        until = time.monotonic() + (0.0 if self._in_vain else PATIENCE)
        if not self._own.acquire(timeout=max(0.0, until - time.monotonic())):
            raise self._refusal()
        try:
            with os_errors(self._path, "lock"):
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                with os_errors(self._path, "lock"):
                    self._take(descriptor, until)
                yield
            finally:
                os.close(descriptor)
        finally:
            self._own.release()

    def _take(self, descriptor: int, until: float) -> None:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    self._in_vain = True
                    raise self._refusal() from None
                time.sleep(_PAUSE)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                return
            else:
                self._in_vain = False
                return

    def _refusal(self) -> TransientStoreError:
        return TransientStoreError(
            f"{self._path} is locked by another process that does not go on: end the container on this store that is "
            "stopped or hangs"
        )
