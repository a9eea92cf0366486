"""Watch: a thread that calls sync when the checkpoint directory is quiet, and flushes at the end."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

from holdfast.errors import DamagedError, StoreError, SupersededError
from holdfast.local.scan import Scan
from holdfast.names import is_log
from holdfast.stop import StopToken
from holdfast.sync.flush import Flush
from holdfast.sync.syncer import Synced, Syncer
from holdfast.watch import torn_writes
from holdfast.watch.alerts import Alerts
from holdfast.watch.events import EVENT_DELAY, Events
from holdfast.watch.settling import Killed, Settling

_LOG = logging.getLogger(__name__)

SAFETY_SCAN = 30.0
"""Seconds between two looks at the directory that no event asked for, at least …"""
SAFETY_SHARE = 0.0003
"""… and as many more as it takes for these looks to need no more than this share of a core …"""
LONGEST_SAFETY_SCAN = 3600.0
"""… but no more than these."""
BLIND_SCAN = 2.0
"""The same where the kernel cannot tell us of changes, at least …"""
BLIND_SHARE = 0.05
"""… and the share of a core that this may take, as may the looks that events ask for."""
PATIENCE = 5.0
"""Seconds that settled checkpoints wait for others that are still being written, before they are committed without
them."""
AHEAD = 8 << 20
"""Bytes from which on a file is sent before the rest of its checkpoint is there."""
SPEAK_EVERY = 60.0
"""Seconds between two records in which a host of several says that its last snapshot is still all it has."""
_LEAST_PAUSE = 0.1
_LONGEST_BACKOFF = 60.0
_TIDY_SLICE = 1.0  # what tidying gets after a commit, whatever else is going on
_TIDY_SECONDS = 10.0  # what must be left before the container is killed, so that nobody waits for the tidying


class Watcher(threading.Thread):
    """Keeps the prefix up to date with the checkpoint directory until it is told to finish.

    Args:
        syncer: does the work; from now on it belongs to this thread.
        directory: the checkpoint directory.
        workers: look at the directory, with the priority that they have.
        on_end: called when the thread is about to end, for whatever reason.
        stop: its deadline is when the last flush must be durable; it may appear and move.
        settling: what a thread before this one has seen; None: nothing.
    """

    def __init__(
        self,
        syncer: Syncer,
        directory: Path,
        *,
        workers: Executor,
        on_end: Callable[[], None],
        stop: StopToken,
        settling: Settling | None = None,
    ) -> None:
        super().__init__(name="holdfast-watch", daemon=True)
        self.flush: Flush | None = None
        """The last flush, once it has begun."""
        self.last: Synced | None = None
        """What the last flush did; None before it succeeded."""
        self.error: BaseException | None = None
        """Why the last flush, or the thread, failed."""
        self.watching = threading.Event()
        """Set when the kernel tells of every change from now on, or when it is known that it will not."""
        self.dirty = 0
        """Bytes that had yet to be sent at the last look."""
        self._syncer = syncer
        self._directory = directory
        self._workers = workers
        self._on_end = on_end
        self.settling = settling or Settling()
        """What has been seen of the files; a thread that replaces this one takes it over."""
        self._events = Events(directory, self.settling)
        self._alerts = Alerts()
        self._finishing = threading.Event()
        self._killed: Killed | None = None
        self._hurry = threading.Event()
        self._flush_until = stop
        self._passing = StopToken(when=self._is_pressed, wind_down=self._finishing.is_set)
        self._sending_ahead = StopToken(self._passing, wind_down=self._hurry.is_set)
        self._tidying = StopToken(when=self._is_needed)
        self._ready_since: float | None = None
        self._next_safety_scan = -math.inf
        self._next_look = 0.0
        self._retry_at = 0.0
        self._failures = 0
        self._ahead: set[str] = set()
        self._tidy_until = 0.0
        self._speak_at = time.monotonic() + SPEAK_EVERY

    def flush_soon(self) -> None:
        """Take what is settled at the next opportunity: a notice or a rebalance recommendation came."""
        self._hurry.set()
        self._events.wake()

    def finish(self, *, killed: Killed | None = None) -> None:
        """Make one last pass over everything, settled or not, and end. The script must have ended.

        Args:
            killed: how a signal ended the script: of checkpoints that it may have cut off, what the last snapshot has
                stays. None: the script ended by itself, and all is taken.
        """
        self._killed = killed
        self._finishing.set()
        self._events.wake()

    def run(self) -> None:
        """Run the thread; its failure is kept in `error`."""
        try:
            self._events.start()
            self.watching.set()
            pause = 0.0
            try:
                while not self._finishing.is_set():
                    self._events.drain(pause)
                    # A log that is appended all the time must not make us look all the time.
                    while (left := self._next_look - time.monotonic()) > 0 and not self._finishing.is_set():
                        self._events.drain(left)
                    if not self._finishing.is_set():
                        pause = self._step(time.monotonic())
            finally:
                self._events.stop()
            self._finish()
        except BaseException as error:  # noqa: BLE001  the lifecycle reads it and decides the exit code
            self.error = error
            self.watching.set()
            if not self._finishing.is_set() and not isinstance(error, SupersededError):
                _LOG.error(
                    "the watch of the checkpoint directory has failed, checkpoints are stored at the end only: %r",
                    error,
                )
        self._on_end()

    def _step(self, now: float) -> float:
        """Look, and sync when it is time; return the seconds until the next look."""
        if now < self._retry_at:
            return self._retry_at - now
        if self._events.dirty_since is None and not self._hurry.is_set() and now < self._next_safety_scan:
            return self._next_safety_scan - now
        try:
            return self._look(now)
        except OSError as error:  # no file descriptor is free, or the directory may not be read just now
            _LOG.warning("checkpoints are NOT being stored: %s; trying again in %g s", error, self._back_off())
            return self._retry_at - now

    def _look(self, now: float) -> float:
        hurry = self._hurry.is_set()
        scan, changed, cost = self._workers.submit(self._compare, now).result()
        self._next_look = time.monotonic() + max(_LEAST_PAUSE, cost / BLIND_SHARE)
        self._next_safety_scan = now + safety_pause(cost, blind=self._events.blind)
        self._ahead.intersection_update(changed)
        if all(is_log(path) for path in changed):
            self._speak(now)
            self._tidy()
        waiting = self.settling.unsettled(changed, now)
        self._alerts.stuck(waiting, now)
        if not changed:
            self._events.dirty_since = None
            self._hurry.clear()
            return self._next_safety_scan - now
        self._events.dirty_since = self._events.dirty_since or now
        soonest = max(_LEAST_PAUSE, min(min(waiting.values(), default=0.0), PATIENCE))
        if len(waiting) == len(changed):
            self._ready_since = None
            return self._send_ahead(scan, changed, now) or soonest
        # Weights may be followed by their JSON. A log that is never closed keeps nobody waiting.
        self._ready_since = self._ready_since or now
        others_coming = any(not is_log(path) for path in waiting) and now < self._ready_since + PATIENCE
        if others_coming and not hurry:
            return self._send_ahead(scan, changed, now) or soonest
        if not self._pass(scan, waiting):
            return self._retry_at - now
        self._hurry.clear()
        self._ready_since = None
        self._tidy()
        self._events.dirty_since = now if waiting else None
        return soonest if waiting else _LEAST_PAUSE

    def _compare(self, now: float) -> tuple[Scan, list[str], float]:
        """Look at the directory; return it, in which paths it is not as the last snapshot has it, and the CPU seconds.

        Runs on a worker, with its priority, while the thread waits.
        """
        began = time.thread_time()
        scan = self._syncer.scan()
        self.settling.observe(scan.files, now)
        changed = torn_writes.dirty(self._syncer, scan)
        self.dirty = sum(self._syncer.unsent(scan.files[path]) for path in changed if path in scan.files)
        return scan, changed, time.thread_time() - began

    def _send_ahead(self, scan: Scan, changed: list[str], now: float) -> float:
        """Send large files that are done before the rest of their checkpoint is; return the pause, 0 for as usual.

        Only once for each path until it is committed: what is written again and again would travel again and again.
        """
        found = [scan.files[path] for path in changed if path in scan.files and path not in self._ahead]
        large = [state for state in found if state.size >= AHEAD and not is_log(state.path)]
        if not (states := [state for state in large if self.settling.is_quiet(state.path, now)]):
            return 0.0
        try:
            self._syncer.send_ahead(states, stop=self._sending_ahead)
        except (StoreError, DamagedError, OSError) as error:
            _LOG.warning("checkpoints are NOT being stored: %s; trying again in %g s", error, self._back_off())
            return self._retry_at - now
        self._ahead.update(state.path for state in states)
        return _LEAST_PAUSE

    def _speak(self, now: float, *, ended: bool = False) -> None:
        """Tell the other hosts, once in a while and at the end, that what is stored is all there is here."""
        if now < self._speak_at and not ended:
            return
        self._speak_at = now + SPEAK_EVERY
        try:
            self._syncer.speak(ended=ended)
        except (StoreError, DamagedError) as error:
            _LOG.warning("the record that this host is up to date cannot be written: %s", error)

    def _pass(self, scan: Scan, waiting: dict[str, float]) -> bool:
        """Sync what is settled; return whether that worked."""
        pending = self._syncer.settled(scan, waiting)
        self._syncer.note_unsent(scan, pending)
        try:
            synced = self._syncer.sync(scan, waiting, stop=self._passing)
        except (StoreError, DamagedError, OSError) as error:
            _LOG.warning("checkpoints are NOT being stored: %s; trying again in %g s", error, self._back_off())
            return False
        self._syncer.note_unsent(scan, [unit for unit in pending if unit.paths & synced.unfinished.keys()])
        if synced.snapshot is not None:
            _LOG.info("%s", synced.sentence)
        if self._alerts.refused(synced):
            self._back_off()
            return False
        if self._failures:
            _LOG.info("checkpoints are being stored again")
        self._failures = 0
        return True

    def _tidy(self) -> None:
        """Bring the plain keys up to date and let old snapshots go, while there is nothing that matters more."""
        self._tidy_until = time.monotonic() + _TIDY_SLICE
        try:
            tidied = self._syncer.tidy(stop=self._tidying)
        except (StoreError, DamagedError, OSError) as error:
            self._alerts.untidy(error)
            return
        self._alerts.tidied()
        if tidied.snapshots or tidied.objects or tidied.uploads:
            _LOG.info(
                "no longer kept: %s; %d objects and %d unfinished uploads deleted",
                ", ".join(tidied.snapshots) or "no snapshot", len(tidied.objects), tidied.uploads,
            )  # fmt: skip

    def _is_needed(self) -> bool:
        """Say whether something matters more than tidying: a change, the last flush, or the end of the time."""
        if self._finishing.is_set():
            return self.last is None or self._flush_until.seconds_left() < _TIDY_SECONDS
        return self._events.has_news and time.monotonic() > self._tidy_until

    def _is_pressed(self) -> bool:
        """Say whether the flush has a deadline: it knows what is worth the time, and goes on with what is stopped."""
        return self._finishing.is_set() and self._flush_until.seconds_left() < math.inf

    def _back_off(self) -> float:
        self._failures += 1
        pause = min(_LONGEST_BACKOFF, 2.0**self._failures)
        self._retry_at = time.monotonic() + pause
        return pause

    def _finish(self) -> None:
        """Store everything that is there."""
        self.flush = Flush(self._syncer, stop=self._flush_until)
        cut_off = self._find_cut_off(self.flush)
        self.last = self.flush.run(self._syncer.scan, cut_off)
        if not self.last.unfinished and not cut_off:
            self._speak(time.monotonic(), ended=True)
        self._tidy()

    def _find_cut_off(self, flush: Flush) -> list[str]:
        if self._killed is None or not torn_writes.dirty(self._syncer, self._syncer.scan()):
            return []
        while (left := self._killed.at + EVENT_DELAY - time.monotonic()) > 0:
            self._events.drain(left)
        now = time.monotonic()
        found = torn_writes.find_suspects(
            self._syncer, self.settling, self._directory, self._killed, now=now, stop=flush.sending
        )
        for checkpoint in torn_writes.checkpoints(found):
            _LOG.warning(
                "%r was being written when the script was killed: its last committed version stays", checkpoint
            )
        return found


def safety_pause(cost: float, *, blind: bool) -> float:
    """Return the seconds until the next look that no event asks for.

    Args:
        cost: CPU seconds of the last one.
        blind: whether the kernel tells nothing.
    """
    if blind:
        return max(BLIND_SCAN, cost / BLIND_SHARE)
    return min(LONGEST_SAFETY_SCAN, max(SAFETY_SCAN, cost / SAFETY_SHARE))
