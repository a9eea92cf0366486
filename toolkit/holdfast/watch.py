"""Watch: a thread that calls sync when the checkpoint directory is quiet, and once more at the end."""

from __future__ import annotations

import logging
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Collection
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
from watchdog.observers.api import BaseObserver

from holdfast.disk import Scan
from holdfast.errors import StoreError
from holdfast.settling import Killed, Settling
from holdfast.sync import Synced, Syncer

SAFETY_SCAN = 30.0
"""Seconds between two looks at the directory that no event asked for."""
BLIND_SCAN = 2.0
"""The same where the kernel cannot tell us of changes."""
PATIENCE = 5.0
"""Seconds that settled checkpoints wait for others that are still being written, before they are committed without
them."""
_LEAST_PAUSE = 0.1
_PAUSE_PER_SCAN = 20.0  # a look at 10,000 files takes 50 ms: then at most one a second
_LONGEST_BACKOFF = 60.0
_COMMIT_SECONDS = 1.0
_FINAL_TRIES = 3
_EVENT_DELAY = 0.6  # watchdog holds events for half a second, to find the two halves of a rename


class Watcher(threading.Thread):
    """Keeps the prefix up to date with the checkpoint directory until it is told to finish.

    Args:
        syncer: does the work; from now on it belongs to this thread.
        directory: the checkpoint directory.
        tell: gets a sentence about each snapshot and each trouble.
        on_end: called when the thread is about to end, for whatever reason.
    """

    def __init__(
        self, syncer: Syncer, directory: Path, *, tell: Callable[[str], None], on_end: Callable[[], None]
    ) -> None:
        super().__init__(name="holdfast-watch", daemon=True)
        self.last: Synced | None = None
        """What the final pass did; None before it succeeded."""
        self.error: BaseException | None = None
        """Why the final pass, or the thread, failed."""
        self.rate: float | None = None
        """Bytes per second of the last upload that was large enough to measure."""
        self._syncer = syncer
        self._directory = directory
        self._tell = tell
        self._on_end = on_end
        self._settling = Settling()
        self._events: queue.SimpleQueue[FileSystemEvent | None] = queue.SimpleQueue()
        self._finishing = threading.Event()
        self._seconds_left: Callable[[], float] = lambda: math.inf
        self._killed: Killed | None = None
        self._hurry = threading.Event()
        self._dirty_since: float | None = None
        self._last_scan = -SAFETY_SCAN
        self._next_look = 0.0
        self._retry_at = 0.0
        self._failures = 0

    def flush_soon(self) -> None:
        """Take what is settled at the next opportunity: a rebalance recommendation came."""
        self._hurry.set()
        self._events.put(None)

    def finish(self, seconds_left: Callable[[], float], *, killed: Killed | None = None) -> None:
        """Make one last pass over everything, settled or not, and end. The script must have ended.

        Args:
            killed: how a signal ended the script: of checkpoints that it may have cut off, what the last snapshot has
                stays. None: the script ended by itself, and all is taken.
            seconds_left: until everything must be durable; infinity when there is no hurry, and that may change on
                the way.
        """
        self._seconds_left = seconds_left
        self._killed = killed
        self._finishing.set()
        self._events.put(None)

    def run(self) -> None:
        """Run the thread; its failure is kept in `error`."""
        try:
            observer = self._observe()
            pause = 0.0
            try:
                while not self._finishing.is_set():
                    self._drain(pause)
                    # A log that is appended all the time must not make us look all the time.
                    while (left := self._next_look - time.monotonic()) > 0 and not self._finishing.is_set():
                        self._drain(left)
                    if not self._finishing.is_set():
                        pause = self._step(time.monotonic(), SAFETY_SCAN if observer else BLIND_SCAN)
            finally:
                if observer is not None:
                    observer.stop()
            self._finish()
        except BaseException as error:  # noqa: BLE001  the lifecycle reads it and decides the exit code
            self.error = error
            if not self._finishing.is_set():
                self._tell(f"the watch of the checkpoint directory has failed, all is stored at the end: {error!r}")
        self._on_end()

    def _observe(self) -> BaseObserver | None:
        """Start inotify; where the kernel refuses, say so and fall back to looking every two seconds."""
        logging.getLogger("watchdog").addHandler(_Overflow(self._tell, self._settling))
        observer = Observer()
        try:
            observer.schedule(
                _Enqueue(self._events),
                os.fspath(self._directory),
                recursive=True,
                event_filter=[FileClosedEvent, FileCreatedEvent, FileDeletedEvent, FileModifiedEvent, FileMovedEvent],
            )
            observer.start()
        except OSError as error:
            self._tell(f"the kernel cannot watch {self._directory} ({error}): looking every {BLIND_SCAN:g} s instead")
            return None
        return observer

    def _drain(self, pause: float) -> None:
        """Wait at most `pause` seconds for an event, then take all that are there."""
        try:
            event = self._events.get(timeout=max(0.0, pause))
            while True:
                if event is not None:
                    self._note(event, time.monotonic())
                event = self._events.get_nowait()
        except queue.Empty:
            return

    def _note(self, event: FileSystemEvent, now: float) -> None:
        path = self._relative(event.src_path)
        if isinstance(event, FileModifiedEvent):
            self._settling.written(path, now)
        elif isinstance(event, FileClosedEvent):
            self._settling.closed(path, now)
        elif isinstance(event, FileMovedEvent):
            self._settling.gone(path)
            self._settling.renamed(self._relative(event.dest_path), now)
        elif isinstance(event, FileDeletedEvent):
            self._settling.gone(path)
        self._dirty_since = self._dirty_since or now

    def _relative(self, path: bytes | str) -> str:
        return os.path.relpath(os.fsdecode(path), self._directory)

    def _step(self, now: float, scan_every: float) -> float:
        """Look, and sync when it is time; return the seconds until the next look."""
        hurry = self._hurry.is_set()
        due = self._last_scan + scan_every
        if now < self._retry_at:
            return self._retry_at - now
        if self._dirty_since is None and not hurry and now < due:
            return due - now
        scan = self._syncer.scan()
        self._last_scan = now
        self._next_look = time.monotonic() + max(_LEAST_PAUSE, _PAUSE_PER_SCAN * (time.monotonic() - now))
        self._settling.observe(scan.files, now)
        changed = [state.path for state in self._syncer.changed(scan)]
        waiting = self._settling.unsettled(changed, now)
        if not changed:
            self._dirty_since = None
            self._hurry.clear()
            return scan_every
        self._dirty_since = self._dirty_since or now
        soonest = min(waiting.values(), default=0.0)
        if waiting and not hurry and (now < self._dirty_since + PATIENCE or len(waiting) == len(changed)):
            return max(_LEAST_PAUSE, min(soonest, PATIENCE))
        self._hurry.clear()
        self._pass(scan, waiting)
        self._dirty_since = now if waiting else None
        return max(_LEAST_PAUSE, min(soonest, PATIENCE)) if waiting else _LEAST_PAUSE

    def _pass(self, scan: Scan, waiting: dict[str, float]) -> None:
        try:
            synced = self._timed(scan, waiting)
        except (StoreError, OSError) as error:
            self._failures += 1
            pause = min(_LONGEST_BACKOFF, 2.0**self._failures)
            self._retry_at = time.monotonic() + pause
            self._tell(f"checkpoints are NOT being stored: {error}; trying again in {pause:g} s")
            return
        if self._failures:
            self._tell("checkpoints are being stored again")
        self._failures = 0
        self._report(synced)

    def _timed(self, scan: Scan, held: Collection[str]) -> Synced:
        start = time.monotonic()
        synced = self._syncer.sync(scan, held, should_stop=self._must_commit)
        took = time.monotonic() - start
        if synced.bytes_uploaded > 1 << 20 and took > 0:
            self.rate = synced.bytes_uploaded / took
        return synced

    def _report(self, synced: Synced) -> None:
        if synced.snapshot is not None:
            files = synced.snapshot.files
            self._tell(
                f"snapshot {synced.snapshot.name}: {len(files)} files, {synced.snapshot.size:,} bytes, "
                f"{synced.bytes_uploaded:,} sent"
            )

    def _finish(self) -> None:
        """Store everything that is there; a file that changes now is tried again while there is time."""
        cut_off = self._find_cut_off()
        tries = 0
        while True:
            scan = self._syncer.scan()
            synced = self._timed(scan, cut_off)
            self._report(synced)
            tries += 1
            if not synced.unfinished or self._must_commit() or tries == _FINAL_TRIES:
                break
            time.sleep(_LEAST_PAUSE)
        self.last = synced

    def _find_cut_off(self) -> list[str]:
        if self._killed is None or not self._syncer.changed(self._syncer.scan()):
            return []
        while (left := self._killed.at + _EVENT_DELAY - time.monotonic()) > 0:
            self._drain(left)
        scan = self._syncer.scan()
        self._settling.observe(scan.files, time.monotonic())
        cut_off = self._settling.cut_off(self._syncer.changed(scan), self._killed)
        for checkpoint in sorted({path.split("/", 1)[0] for path in cut_off}):
            self._tell(
                f"{checkpoint} was being written when the script was killed: what was committed of it before stays"
            )
        return cut_off

    def _must_commit(self) -> bool:
        """Say whether what is left of the time is needed for the commit itself."""
        return self._seconds_left() < _COMMIT_SECONDS


class _Enqueue(FileSystemEventHandler):
    def __init__(self, events: queue.SimpleQueue[FileSystemEvent | None]) -> None:
        self._events = events

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._events.put(event)


class _Overflow(logging.Handler):
    """watchdog tells of events that the kernel dropped in its log only; a closing may be among them."""

    def __init__(self, tell: Callable[[str], None], settling: Settling) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell
        self._settling = settling

    def emit(self, record: logging.LogRecord) -> None:
        self._settling.forget_open()
        self._tell(f"watching: {record.getMessage()}")
