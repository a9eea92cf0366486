"""The lock of a directory store: between a check and its write, no other process writes."""

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
from holdfast.store.os_errors import opened, os_errors

WAIT_SECONDS = 5.0
"""Longest wait for another process, which holds the lock for a check and a rename."""
_PAUSE = 0.002
# A file system without locks, or without its lock server: then check and write are two steps.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class Lock:
    """An advisory lock (flock) between all processes that use one directory as a store; a killed one frees it.

    It holds between the processes of one machine, and between machines where the file system passes locks on (NFS,
    EFS). Safe to use from several threads.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = threading.Lock()
        self._timed_out = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock.

        Raises:
            TransientStoreError: another process keeps it. After one such wait there is no other until it has been free
                once: a deadline may be near.
        """
        wait = 0.0 if self._timed_out else WAIT_SECONDS
        until = time.monotonic() + wait
        if not self._threads.acquire(timeout=wait):
            raise self._refusal()
        try:
            with opened(self._path, os.O_RDWR | os.O_CREAT, "lock") as descriptor:
                with os_errors(self._path, "lock"):
                    self._take(descriptor, until)
                yield
        finally:
            self._threads.release()

    def _take(self, descriptor: int, until: float) -> None:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    self._timed_out = True
                    raise self._refusal() from None
                time.sleep(_PAUSE)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                return
            else:
                self._timed_out = False
                return

    def _refusal(self) -> TransientStoreError:
        return TransientStoreError(
            f"{self._path} is locked by another process that does not continue: end the container on this store that "
            "is stopped or hangs"
        )
