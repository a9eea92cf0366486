"""Watch: a thread that calls sync when the checkpoint directory is quiet, and once more at the end."""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from watchdog.events import FileClosedEvent, FileDeletedEvent, FileModifiedEvent, FileMovedEvent, FileSystemEvent

from holdfast.disk import Scan
from holdfast.errors import (
    CutFileError,
    DamagedError,
    StoreError,
    SupersededError,
    TransientStoreError,
)
from holdfast.inotify import Events, observe
from holdfast.names import checkpoint_of, is_log
from holdfast.probes import Verdict, probe
from holdfast.settling import Killed, Settling
from holdfast.sync import Synced, Syncer

SAFETY_SCAN = 30.0
"""Seconds between two looks at the directory that no event asked for."""
BLIND_SCAN = 2.0
"""The same where the kernel cannot tell us of changes."""
PATIENCE = 5.0
"""Seconds that settled checkpoints wait for others that are still being written, before they are committed without
them."""
FLUSH_PATIENCE = 600.0
"""Seconds for which the last flush is tried again when the store does not answer and nobody presses."""
STUCK = 60.0
"""Seconds after which a checkpoint that does not settle is told."""
SPEAK_EVERY = 60.0
"""Seconds between two records in which a host of several says that its last snapshot is still all it has."""
_LEAST_PAUSE = 0.1
_PAUSE_PER_SCAN = 20.0  # a look at 10,000 files takes 50 ms: then at most one a second
_LONGEST_BACKOFF = 60.0
_COMMIT_SECONDS = 1.0
_TIDY_SLICE = 1.0  # what tidying gets after a commit, whatever else is going on
_TIDY_SECONDS = 10.0  # what must be left before the container is killed, so that nobody waits for the tidying
_FINAL_TRIES = 3
_SUSPECT_BUDGET = 1 << 30  # bytes of a file's content that are summed up to clear it: 0.4 s
_EVENT_DELAY = 0.6  # watchdog holds events for half a second, to find the two halves of a rename


class Watcher(threading.Thread):
    """Keeps the prefix up to date with the checkpoint directory until it is told to finish.

    Args:
        syncer: does the work; from now on it belongs to this thread.
        directory: the checkpoint directory.
        tell: gets a sentence about each snapshot and each trouble.
        on_end: called when the thread is about to end, for whatever reason.
        settling: what a thread before this one has seen; None: nothing.
    """

    def __init__(
        self,
        syncer: Syncer,
        directory: Path,
        *,
        tell: Callable[[str], None],
        on_end: Callable[[], None],
        settling: Settling | None = None,
    ) -> None:
        super().__init__(name="holdfast-watch", daemon=True)
        self.last: Synced | None = None
        """What the final pass did; None before it succeeded."""
        self.error: BaseException | None = None
        """Why the final pass, or the thread, failed."""
        self.watching = threading.Event()
        """Set when the kernel tells of every change from now on, or when it is known that it will not."""
        self.rate: float | None = None
        """Bytes per second of the last upload that was large enough to measure."""
        self._syncer = syncer
        self._directory = directory
        self._tell = tell
        self._on_end = on_end
        self.settling = settling or Settling()
        """What has been seen of the files; a thread that replaces this one takes it over."""
        self._events: Events = queue.SimpleQueue()
        self._finishing = threading.Event()
        self._seconds_left: Callable[[], float] = lambda: math.inf
        self._killed: Killed | None = None
        self._hurry = threading.Event()
        self._dirty_since: float | None = None
        self._ready_since: float | None = None
        self._last_scan = -SAFETY_SCAN
        self._next_look = 0.0
        self._retry_at = 0.0
        self._failures = 0
        self._told: dict[str, str] = {}
        self._waiting_since: dict[str, float] = {}
        self._stuck: set[str] = set()
        self._tidy_trouble = ""
        self._tidy_until = 0.0
        self._speak_at = time.monotonic() + SPEAK_EVERY

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
            observer = observe(self._directory, self._events, tell=self._tell, on_overflow=self.settling.forget_open)
            self.watching.set()
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
            self.watching.set()
            if not self._finishing.is_set() and not isinstance(error, SupersededError):
                self._tell(f"the watch of the checkpoint directory has failed, all is stored at the end: {error!r}")
        self._on_end()

    def _drain(self, pause: float) -> None:
        """Wait at most `pause` seconds for an event, then take all that are there."""
        try:
            entry = self._events.get(timeout=max(0.0, pause))
            while True:
                if entry is not None:
                    self._note(*entry)
                entry = self._events.get_nowait()
        except queue.Empty:
            return

    def _note(self, now: float, event: FileSystemEvent) -> None:
        path = self._relative(event.src_path)
        if isinstance(event, FileModifiedEvent):
            self.settling.written(path, now)
        elif isinstance(event, FileClosedEvent):
            self.settling.closed(path, now)
        elif isinstance(event, FileMovedEvent):
            self.settling.renamed(path, self._relative(event.dest_path), now)
        elif isinstance(event, FileDeletedEvent):
            self.settling.gone(path, now)
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
        try:
            return self._look(now, scan_every, hurry=hurry)
        except OSError as error:  # no file descriptor is free, or the directory may not be read just now
            self._tell(f"checkpoints are NOT being stored: {error}; trying again in {self._back_off():g} s")
            return self._retry_at - now

    def _look(self, now: float, scan_every: float, *, hurry: bool) -> float:
        scan = self._syncer.scan()
        self._last_scan = now
        self._next_look = time.monotonic() + max(_LEAST_PAUSE, _PAUSE_PER_SCAN * (time.monotonic() - now))
        self.settling.observe(scan.files, now)
        changed = self._dirty(scan)
        if all(is_log(path) for path in changed):
            self._speak(now)
            self._tidy()
        waiting = self.settling.unsettled(changed, now)
        self._tell_stuck(waiting, now)
        if not changed:
            self._dirty_since = None
            self._hurry.clear()
            return scan_every
        self._dirty_since = self._dirty_since or now
        soonest = min(waiting.values(), default=0.0)
        if len(waiting) == len(changed):
            self._ready_since = None
            return max(_LEAST_PAUSE, min(soonest, PATIENCE))
        # Weights may be followed by their JSON. A log that is never closed keeps nobody waiting.
        self._ready_since = self._ready_since or now
        others_coming = any(not is_log(path) for path in waiting) and now < self._ready_since + PATIENCE
        if others_coming and not hurry:
            return max(_LEAST_PAUSE, min(soonest, PATIENCE))
        if not self._pass(scan, waiting):
            return self._retry_at - now
        self._hurry.clear()
        self._ready_since = None
        self._tidy()
        self._dirty_since = now if waiting else None
        return max(_LEAST_PAUSE, min(soonest, PATIENCE)) if waiting else _LEAST_PAUSE

    def _speak(self, now: float, *, ended: bool = False) -> None:
        """Tell the other hosts, once in a while and at the end, that what is stored is all there is here."""
        if now < self._speak_at and not ended:
            return
        self._speak_at = now + SPEAK_EVERY
        try:
            self._syncer.speak(ended=ended)
        except (StoreError, DamagedError) as error:
            self._tell(f"the other hosts cannot be told that all is stored here: {error}")

    def _tell_stuck(self, waiting: Iterable[str], now: float) -> None:
        """Say once of each checkpoint that has waited for a minute what it waits for."""
        first = {checkpoint_of(path): path for path in waiting if not is_log(path)}
        self._waiting_since = {name: self._waiting_since.get(name, now) for name in first}
        self._stuck &= first.keys()
        for name, path in first.items():
            if now - self._waiting_since[name] > STUCK and name not in self._stuck:
                self._stuck.add(name)
                self._tell(f"{name!r} has not been stored for {STUCK:g} s: {path!r} is still being written, or open")

    def _pass(self, scan: Scan, waiting: dict[str, float]) -> bool:
        """Sync what is settled; return whether that worked."""
        try:
            synced = self._timed(
                lambda: self._syncer.sync(
                    scan, waiting, should_stop=self._must_commit, should_leave=self._finishing.is_set
                )
            )
        except (StoreError, DamagedError, OSError) as error:
            self._tell(f"checkpoints are NOT being stored: {error}; trying again in {self._back_off():g} s")
            return False
        self._report(synced)
        if self._tell_refused(synced):
            self._back_off()
            return False
        if self._failures:
            self._tell("checkpoints are being stored again")
        self._failures = 0
        return True

    def _tidy(self) -> None:
        """Bring the plain keys up to date and let old snapshots go, while there is nothing that matters more."""
        self._tidy_until = time.monotonic() + _TIDY_SLICE
        try:
            tidied = self._syncer.tidy(should_stop=self._is_needed)
        except (StoreError, DamagedError, OSError) as error:
            if str(error) != self._tidy_trouble:
                self._tell(f"what is stored cannot be tidied, it is tried again after the next snapshot: {error}")
            self._tidy_trouble = str(error)
            return
        self._tidy_trouble = ""
        if tidied.snapshots or tidied.objects or tidied.uploads:
            self._tell(
                f"no longer kept: {', '.join(tidied.snapshots) or 'no snapshot'}; {len(tidied.objects)} objects "
                f"and {tidied.uploads} unfinished uploads deleted"
            )

    def _is_needed(self) -> bool:
        """Say whether something matters more than tidying: a change, or the end of the time."""
        if self._finishing.is_set():
            return self._seconds_left() < _TIDY_SECONDS
        return not self._events.empty() and time.monotonic() > self._tidy_until

    def _back_off(self) -> float:
        self._failures += 1
        pause = min(_LONGEST_BACKOFF, 2.0**self._failures)
        self._retry_at = time.monotonic() + pause
        return pause

    def _tell_refused(self, synced: Synced) -> bool:
        """Say once of single files why they are not taken; return whether the store is the reason for any."""
        refused = {
            path: error for path, error in synced.unfinished.items() if isinstance(error, StoreError | CutFileError)
        }
        for path, error in refused.items():
            if self._told.get(path) != str(error):
                self._tell(f"{path!r} is not in the snapshot: {error}")
        self._told = {path: str(error) for path, error in refused.items()}
        return any(isinstance(error, StoreError) for error in refused.values())

    def _timed(self, work: Callable[[], Synced]) -> Synced:
        start = time.monotonic()
        synced = work()
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
        tries, self._failures = 0, 0
        give_up = time.monotonic() + FLUSH_PATIENCE
        while True:
            try:
                synced = self._timed(
                    lambda: self._syncer.flush(self._syncer.scan(), cut_off, should_stop=self._must_commit)
                )
            except TransientStoreError as error:
                if self._must_commit() or time.monotonic() > give_up:
                    raise
                self._tell(f"the last flush failed and is tried again in {self._back_off():g} s: {error}")
                self._finishing_pause()
                continue
            self._report(synced)
            tries += 1
            in_vain = any(isinstance(error, TransientStoreError) for error in synced.unfinished.values())
            if not synced.unfinished or self._must_commit() or (tries >= _FINAL_TRIES and not in_vain):
                break
            if in_vain:
                if time.monotonic() > give_up:
                    break
                self._tell_refused(synced)
                self._back_off()
                self._finishing_pause()
            time.sleep(_LEAST_PAUSE)
        self.last = synced
        if not synced.unfinished and not cut_off:
            self._speak(time.monotonic(), ended=True)
        self._tidy()

    def _finishing_pause(self) -> None:
        """Wait until the next try, or until the time is up."""
        while time.monotonic() < self._retry_at and not self._must_commit():
            time.sleep(_LEAST_PAUSE)

    def _find_cut_off(self) -> list[str]:
        if self._killed is None or not self._dirty(self._syncer.scan()):
            return []
        while (left := self._killed.at + _EVENT_DELAY - time.monotonic()) > 0:
            self._drain(left)
        scan = self._syncer.scan()
        self.settling.observe(scan.files, time.monotonic())
        dirty = self._dirty(scan)
        cut_off = self.settling.cut_off(dirty, self._killed, self._is_whole, self._syncer.stored_before(dirty))
        for checkpoint in sorted({checkpoint_of(path) for path in cut_off}):
            self._tell(
                f"{checkpoint!r} was being written when the script was killed: what was committed of it before stays"
            )
        return cut_off

    def _is_whole(self, path: str) -> bool:
        try:
            return (
                not self._must_commit()
                and probe(self._directory / path, content_budget=_SUSPECT_BUDGET).verdict is Verdict.WHOLE
            )
        except OSError:
            return False

    def _dirty(self, scan: Scan) -> list[str]:
        """Return the paths in which the directory is not as the last snapshot has it."""
        return [*(state.path for state in self._syncer.changed(scan)), *self._syncer.vanished(scan)]

    def _must_commit(self) -> bool:
        """Say whether what is left of the time is needed for the commit itself."""
        return self._seconds_left() < _COMMIT_SECONDS
