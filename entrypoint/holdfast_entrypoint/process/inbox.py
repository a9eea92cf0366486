"""The inbox: where signals, notices and threads leave word for the one loop that decides."""

from __future__ import annotations

import contextlib
import os
import queue
import select
from collections.abc import Iterator


class Inbox:
    """Events in the order in which they came, and a wait that every one of them ends.

    The wait is a select on a pipe. A wait on the queue alone would sleep through a signal that the kernel gives to
    another thread: Python's handlers run in the main thread only, and nothing would wake it.
    """

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._reading, self.wakeup_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def note(self, event: object) -> None:
        """Keep an event without waking anybody: for signal handlers, whose wake-up comes through `wakeup_fd`.

        SimpleQueue.put is the one queue operation that may interrupt itself.
        """
        self._events.put(event)

    def put(self, event: object) -> None:
        """Keep an event and end the wait; from any thread."""
        self._events.put(event)
        self.wake()

    def wake(self) -> None:
        """End the wait without an event."""
        with contextlib.suppress(BlockingIOError, OSError):  # full: the wait ends anyway; closed: nobody waits any more
            os.write(self.wakeup_fd, b"\0")

    def wait(self, timeout: float) -> Iterator[object]:
        """Wait until something is there, at most `timeout` seconds, and yield all that is."""
        if self._events.empty():
            select.select([self._reading], [], [], max(0.0, timeout))
        with contextlib.suppress(BlockingIOError):
            while os.read(self._reading, 4096):
                pass
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._events.get_nowait()

    def close(self) -> None:
        """Give the pipe back; nothing is waited for any more."""
        writing, self.wakeup_fd = self.wakeup_fd, -1  # a late word must not land in whatever gets the number next
        os.close(self._reading)
        os.close(writing)
