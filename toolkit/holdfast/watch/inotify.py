"""Inotify events of a directory, each with the time at which it came."""

from __future__ import annotations

import logging
import os
import queue
import time
from collections.abc import Callable
from pathlib import Path

from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

EventQueue = queue.SimpleQueue[tuple[float, FileSystemEvent] | None]
"""(seconds of the monotonic clock, event); None only ends a wait."""

_LOG = logging.getLogger(__name__)
_WATCHDOG = logging.getLogger("watchdog")


def observe(directory: Path, events: EventQueue, *, on_overflow: Callable[[], None]) -> Callable[[], None] | None:
    """Watch a directory and everything below it; return the function that ends the watch.

    Where the kernel refuses (no more instances or watches), log a warning and return None.
    """
    overflow = _Overflow(on_overflow)
    _WATCHDOG.addHandler(overflow)
    try:
        observer = Observer()
        observer.schedule(
            _Enqueue(events),
            os.fspath(directory),
            recursive=True,
            event_filter=[FileClosedEvent, FileCreatedEvent, FileDeletedEvent, FileModifiedEvent, FileMovedEvent],
        )
        observer.start()
    except OSError as error:
        _LOG.warning(
            "the kernel cannot watch %s (%s): the directory is scanned every few seconds instead", directory, error
        )
        _WATCHDOG.removeHandler(overflow)
        return None

    def stop() -> None:
        overflow.setLevel(logging.CRITICAL)  # watchdog's threads log their own stop as an error
        observer.stop()
        _WATCHDOG.removeHandler(overflow)

    return stop


class _Enqueue(FileSystemEventHandler):
    def __init__(self, events: EventQueue) -> None:
        self._events = events

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._events.put((time.monotonic(), event))


class _Overflow(logging.Handler):
    """Call `on_overflow` when watchdog logs that the kernel dropped events; it reports that nowhere else."""

    def __init__(self, on_overflow: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._on_overflow = on_overflow

    def emit(self, record: logging.LogRecord) -> None:
        self._on_overflow()
        _LOG.warning("watching: %s", record.getMessage())
