"""Inbox: events of signal handlers and threads, for the one loop that acts on them."""

from __future__ import annotations

import contextlib
import os
import queue
import select
from collections.abc import Iterator


class Inbox:
    """Events in the order of their arrival, and a wait that each of them ends.

    The wait is a select on a pipe. A wait on the queue alone would not end for a signal that the kernel gives to
    another thread: Python's handlers run in the main thread only, which would go on sleeping.
    """

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._reading, self.wakeup_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def note(self, event: object) -> None:
        """Keep an event and leave the wake-up to `wakeup_fd`: for signal handlers.

        SimpleQueue.put is the one queue operation that may interrupt itself.
        """
        self._events.put(event)

    def put(self, event: object) -> None:
        """Keep an event and end the wait; from any thread."""
        self._events.put(event)
        self.wake()

    def wake(self) -> None:
        """End the wait without an event."""
        with contextlib.suppress(BlockingIOError, OSError):  # full: the wait ends anyway; closed: nothing waits
            os.write(self.wakeup_fd, b"\0")

    def wait(self, timeout: float) -> Iterator[object]:
        """Wait for an event, at most `timeout` seconds, and yield all events that have come."""
        if self._events.empty():
            select.select([self._reading], [], [], max(0.0, timeout))
        with contextlib.suppress(BlockingIOError):
            while os.read(self._reading, 4096):
                pass
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._events.get_nowait()

    def close(self) -> None:
        """Close the pipe. Later events are kept and wake nothing."""
        writing, self.wakeup_fd = self.wakeup_fd, -1  # a late event must not go to another file with this number
        os.close(self._reading)
        os.close(writing)
