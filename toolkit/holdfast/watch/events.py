"""Translate inotify events into file states."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path

from watchdog.events import FileClosedEvent, FileDeletedEvent, FileModifiedEvent, FileMovedEvent, FileSystemEvent

from holdfast.names import OWN_DIRECTORY
from holdfast.watch.inotify import EventQueue, observe
from holdfast.watch.settling import Settling

EVENT_DELAY = 0.6
"""Seconds by which an event may be late: watchdog holds them for half a second, to find the two halves of a rename."""


class Events:
    """Read the events of a directory and note them in `settling`. All but `wake` belongs to one thread."""

    def __init__(self, directory: Path, settling: Settling) -> None:
        self.blind = True
        """Whether the kernel reports no events."""
        self._directory = directory
        self._settling = settling
        self._events: EventQueue = queue.SimpleQueue()
        self._dropped = threading.Event()
        self.stop: Callable[[], None] = lambda: None
        """Collect no more events. watchdog drops those that it delays (`EVENT_DELAY`)."""

    def start(self) -> None:
        """Begin to collect events, if the kernel allows it."""
        stop = observe(self._directory, self._events, on_overflow=self._overflowed)
        if stop is not None:
            self.blind, self.stop = False, stop

    def wake(self) -> None:
        """End the wait in `drain`, from any thread."""
        self._events.put(None)

    @property
    def pending(self) -> bool:
        """Whether there is something to drain."""
        return not self._events.empty()

    def drain(self, seconds: float) -> bool:
        """Wait at most `seconds` for an event, then note all of them; return whether there is a reason to scan."""
        reason = False
        with contextlib.suppress(queue.Empty):
            entry = self._events.get(timeout=max(0.0, seconds))
            while True:
                reason |= entry is None or self._note(*entry)
                entry = self._events.get_nowait()
        if self._dropped.is_set():
            self._dropped.clear()
            self._settling.forget_open()
        return reason

    def _overflowed(self) -> None:  # a close may be among the dropped events, and any file may have changed
        self._dropped.set()
        self.wake()

    def _note(self, now: float, event: FileSystemEvent) -> bool:
        path = self._relative(event.src_path)
        if path.startswith(f"{OWN_DIRECTORY}/") and not isinstance(event, FileMovedEvent):
            return False  # a restore stages files there; the rename into place counts
        if isinstance(event, FileModifiedEvent):
            self._settling.written(path, now)
        elif isinstance(event, FileClosedEvent):
            self._settling.closed(path, now)
        elif isinstance(event, FileMovedEvent):
            self._settling.renamed(path, self._relative(event.dest_path), now)
        elif isinstance(event, FileDeletedEvent):
            self._settling.gone(path, now)
        return True

    def _relative(self, path: bytes | str) -> str:
        return os.path.relpath(os.fsdecode(path), self._directory)
