"""Hearing: what the kernel tells of the checkpoint directory becomes what is known of its files."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from watchdog.events import FileClosedEvent, FileDeletedEvent, FileModifiedEvent, FileMovedEvent, FileSystemEvent

from holdfast.names import OWN_DIRECTORY
from holdfast.watch.inotify import EventQueue, observe
from holdfast.watch.settling import Settling

EVENT_DELAY = 0.6
"""Seconds by which an event may be late: watchdog holds them for half a second, to find the two halves of a rename."""


class Events:
    """Hears what happens in a directory, from `start` on. All but `wake` belongs to one thread.

    Args:
        directory: the checkpoint directory.
        settling: learns of every event.
    """

    def __init__(self, directory: Path, settling: Settling) -> None:
        self.blind = True
        """Whether the kernel tells nothing."""
        self.dirty_since: float | None = None
        """When something was first heard of since this was last set to None, by the monotonic clock."""
        self._directory = directory
        self._settling = settling
        self._events: EventQueue = queue.SimpleQueue()
        self._dropped = threading.Event()
        self._stop: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin to hear, if the kernel lets us."""
        stop = observe(self._directory, self._events, on_overflow=self._overflowed)
        if stop is not None:
            self.blind, self._stop = False, stop

    def stop(self) -> None:
        """Hear no more; what has been heard can still be drained."""
        self._stop()

    def wake(self) -> None:
        """End the wait in `drain`, from any thread."""
        self._events.put(None)

    @property
    def has_news(self) -> bool:
        """Whether there is something to drain."""
        return not self._events.empty()

    def drain(self, pause: float) -> None:
        """Wait at most `pause` seconds for an event, then take in all that are there."""
        try:
            entry = self._events.get(timeout=max(0.0, pause))
            while True:
                if entry is not None:
                    self._note(*entry)
                entry = self._events.get_nowait()
        except queue.Empty:
            pass
        if self._dropped.is_set():
            self._dropped.clear()
            self._settling.forget_open()
            self.dirty_since = self.dirty_since or time.monotonic()

    def _overflowed(self) -> None:
        """Take it that the kernel dropped events: a closing may be among them, and anything may have changed."""
        self._dropped.set()
        self.wake()

    def _note(self, now: float, event: FileSystemEvent) -> None:
        path = self._relative(event.src_path)
        if path.startswith(f"{OWN_DIRECTORY}/") and not isinstance(event, FileMovedEvent):
            return  # what is about to arrive is written there
        if isinstance(event, FileModifiedEvent):
            self._settling.written(path, now)
        elif isinstance(event, FileClosedEvent):
            self._settling.closed(path, now)
        elif isinstance(event, FileMovedEvent):
            self._settling.renamed(path, self._relative(event.dest_path), now)
        elif isinstance(event, FileDeletedEvent):
            self._settling.gone(path, now)
        self.dirty_since = self.dirty_since or now

    def _relative(self, path: bytes | str) -> str:
        return os.path.relpath(os.fsdecode(path), self._directory)
