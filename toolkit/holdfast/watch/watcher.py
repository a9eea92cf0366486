"""The thread that commits the checkpoint directory while the script runs, and flushes it at the end."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor

from holdfast.errors import DamagedError, StoreError, SupersededError
from holdfast.local.scan import Scan
from holdfast.names import checkpoint_of, is_log
from holdfast.probes import Verdict, probe
from holdfast.stop import StopToken
from holdfast.sync.flush import Flush
from holdfast.sync.syncer import Synced, Syncer
from holdfast.watch.alerts import Alerts
from holdfast.watch.events import EVENT_DELAY, Events
from holdfast.watch.schedule import Schedule
from holdfast.watch.settling import Killed, Settling

_LOG = logging.getLogger(__name__)

AHEAD = 8 << 20
"""Bytes from which on a file is sent before the rest of its checkpoint is settled."""
REPORT_EVERY = 60.0
"""Seconds between two records in which a host of several says that its last snapshot is up to date."""
_PROBE_BUDGET = 1 << 30  # bytes that are read of a file to check its content: 0.4 s
_TIDY_SLICE = 1.0  # seconds for tidying after a commit, whatever else there is to do
_TIDY_SECONDS = 10.0  # seconds before the deadline at which tidying ends


class Watcher(threading.Thread):
    """Thread that commits the checkpoint directory when it is settled, until `finish`.

    Args:
        syncer: from now on it belongs to this thread.
        on_end: called when the thread is about to end, for any reason.
        settling: states of the files; from an earlier thread, if there was one.
    """

    def __init__(
        self, syncer: Syncer, *, workers: Executor, on_end: Callable[[], None], stop: StopToken, settling: Settling
    ) -> None:
        super().__init__(name="holdfast-watch", daemon=True)
        self.flush: Flush | None = None
        """The last flush, once it has begun."""
        self.last: Synced | None = None
        """Result of the last flush; None before it succeeded."""
        self.error: BaseException | None = None
        """Why the last flush, or the thread, failed."""
        self.watching = threading.Event()
        """Set when the kernel reports changes, or is known not to."""
        self.dirty = 0
        """Bytes that were not sent yet at the last scan."""
        self._settling = settling
        self._syncer = syncer
        self._workers = workers
        self._on_end = on_end
        self._events = Events(syncer.directory, settling)
        self._alerts = Alerts()
        self._schedule = Schedule()
        self._finishing = threading.Event()
        self._killed: Killed | None = None
        self._hurry = threading.Event()
        self._flush_until = stop
        self._passing = StopToken(when=self._has_deadline, wind_down=self._finishing.is_set)
        self._sending_ahead = StopToken(self._passing, wind_down=self._hurry.is_set)
        self._tidying = StopToken(when=self._has_more_urgent_work)
        self._ahead: set[str] = set()
        self._tidy_until = 0.0
        self._report_at = time.monotonic() + REPORT_EVERY

    def flush_soon(self) -> None:
        """Commit what is settled at once: a notice or a rebalance recommendation came."""
        self._hurry.set()
        self._events.wake()

    def finish(self, *, killed: Killed | None = None) -> None:
        """Flush everything, settled or not, and end the thread. The script must have ended.

        What it may have torn because it was `killed` stays as in the last snapshot.
        """
        self._killed = killed
        self._finishing.set()
        self._events.wake()

    def run(self) -> None:
        """Watch and flush; a failure is kept in `error`."""
        try:
            self._events.start()
            self.watching.set()
            self._watch()
            self._finish()
        except BaseException as error:  # noqa: BLE001  the lifecycle reads it and decides the exit code
            self.error = error
            self.watching.set()
            if not self._finishing.is_set() and not isinstance(error, SupersededError):
                _LOG.error(
                    "the watch of the checkpoint directory has failed, checkpoints are stored at the end only: %r",
                    error,
                )
        self._events.stop()
        self._on_end()

    def _watch(self) -> None:
        triggered = False
        while not self._finishing.is_set():
            triggered |= self._events.drain(self._schedule.seconds_to_scan(triggered=triggered))
            if self._schedule.seconds_to_scan(triggered=triggered) <= 0 and not self._finishing.is_set():
                triggered = False
                try:
                    self._scan_and_commit()
                except (StoreError, DamagedError, OSError) as error:  # OSError: no file descriptor is free, …
                    pause = self._schedule.back_off()
                    _LOG.warning("checkpoints are NOT being stored: %s; trying again in %g s", error, pause)

    def _scan_and_commit(self) -> None:
        now = time.monotonic()
        scan, changed, cost = self._workers.submit(self._compare, now).result()
        self._schedule.scanned(cost, blind=self._events.blind)
        self._ahead.intersection_update(changed)
        if all(is_log(path) for path in changed):
            self._report_up_to_date(now)
            self._tidy()
        waiting = self._settling.unsettled(changed, now)
        self._alerts.stuck(waiting, now)
        if not changed:
            self._hurry.clear()
            return
        hurry = self._hurry.is_set()
        # Weights may be followed by their JSON. A log that is never closed delays nothing.
        unsettled = not hurry and any(not is_log(path) for path in waiting)
        if not self._schedule.is_commit_due(settled=len(waiting) < len(changed), unsettled=unsettled):
            sent = self._send_ahead(scan, changed, now)
            self._schedule.scan_within(0.0 if sent else min(waiting.values()))
        elif self._commit(scan, waiting):
            self._hurry.clear()
            self._tidy()
            if waiting:
                self._schedule.scan_within(min(waiting.values()))

    def _compare(self, now: float) -> tuple[Scan, list[str], float]:
        """Return a scan, the paths that differ from the last snapshot, and the CPU seconds of the worker."""
        began = time.thread_time()
        scan = self._syncer.scan()
        self._settling.observe(scan.files, now)
        changed = self._syncer.changes.dirty(scan)
        self.dirty = sum(self._syncer.outbox.unsent(scan.files[path]) for path in changed if path in scan.files)
        return scan, changed, time.thread_time() - began

    def _send_ahead(self, scan: Scan, changed: list[str], now: float) -> bool:
        """Send large files that are quiet before the rest of their checkpoint is; return whether any was sent.

        A path is sent ahead once until it is committed: a file that is rewritten all the time is not sent all the time.
        """
        found = [scan.files[path] for path in changed if path in scan.files and path not in self._ahead]
        large = [state for state in found if state.size >= AHEAD and not is_log(state.path)]
        states = [state for state in large if self._settling.is_quiet(state.path, now)]
        if states:
            self._syncer.send_ahead(states, stop=self._sending_ahead)
            self._ahead.update(state.path for state in states)
        return bool(states)

    def _commit(self, scan: Scan, waiting: dict[str, float]) -> bool:
        """Commit what is settled; return whether the store refused no file."""
        pending = self._syncer.settled(scan, waiting)
        self._syncer.note_unsent(scan, pending)
        synced = self._syncer.sync(scan, waiting, stop=self._passing)
        self._syncer.note_unsent(scan, [group for group in pending if group.paths & synced.unfinished.keys()])
        if synced.snapshot is not None:
            _LOG.info("%s", synced.sentence)
        if self._alerts.refused(synced):
            self._schedule.back_off()
            return False
        if self._schedule.failures:
            _LOG.info("checkpoints are being stored again")
        self._schedule.committed()
        return True

    def _report_up_to_date(self, now: float, *, ended: bool = False) -> None:
        """Record for the other hosts, once a minute and at the end, that the last snapshot has everything."""
        if now < self._report_at and not ended:
            return
        self._report_at = now + REPORT_EVERY
        try:
            self._syncer.repeat(ended=ended)
        except (StoreError, DamagedError) as error:
            _LOG.warning("the record that this host is up to date cannot be written: %s", error)

    def _tidy(self) -> None:
        """Update the plain keys and expire old snapshots, unless there is more urgent work."""
        self._tidy_until = time.monotonic() + _TIDY_SLICE
        try:
            tidied = self._syncer.tidy(stop=self._tidying)
        except (StoreError, DamagedError, OSError) as error:
            self._alerts.tidied(error)
            return
        self._alerts.tidied()
        if tidied.snapshots or tidied.objects or tidied.uploads:
            _LOG.info(
                "no longer kept: %s; %d objects and %d unfinished uploads deleted",
                ", ".join(tidied.snapshots) or "no snapshot", len(tidied.objects), tidied.uploads,
            )  # fmt: skip

    def _has_more_urgent_work(self) -> bool:
        if self._finishing.is_set():
            return self.last is None or self._flush_until.seconds_left() < _TIDY_SECONDS
        return self._events.pending and time.monotonic() > self._tidy_until

    def _has_deadline(self) -> bool:
        """Whether the flush has a deadline. Only the flush knows what is worth the time, and continues what stops."""
        return self._finishing.is_set() and self._flush_until.seconds_left() < math.inf

    def _finish(self) -> None:
        self.flush = Flush(self._syncer, stop=self._flush_until)
        torn = self._find_torn(self._killed, self.flush.sending) if self._killed is not None else []
        self.last = self.flush.run(self._syncer.scan, torn)
        if not self.last.unfinished and not torn:
            self._report_up_to_date(time.monotonic(), ended=True)
        self._tidy()

    def _find_torn(self, killed: Killed, stop: StopToken) -> list[str]:
        """Return the changed paths that may be torn; log each checkpoint. When stopped, no file is read."""
        if not self._syncer.changes.dirty(self._syncer.scan()):
            return []
        while (left := killed.at + EVENT_DELAY - time.monotonic()) > 0:
            self._events.drain(left)
        _, changed, _ = self._compare(time.monotonic())

        def is_whole(path: str) -> bool:
            if stop.stopped():
                return False
            try:
                return probe(self._syncer.directory / path, content_budget=_PROBE_BUDGET).verdict is Verdict.WHOLE
            except OSError:
                return False

        torn = self._settling.torn(changed, killed, is_whole, self._syncer.changes.stored_before(changed))
        for name in sorted(set(map(checkpoint_of, torn))):
            _LOG.warning("%r was being written when the script was killed: its last committed version stays", name)
        return torn
