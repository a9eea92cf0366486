"""Guard the checkpoints of one life: watch them while the script runs, flush them after it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import Executor

from holdfast.errors import CutFileError, SupersededError
from holdfast.names import checkpoint_of
from holdfast.stop import StoppedError, StopToken
from holdfast.sync.ledger import Ledger
from holdfast.watch.settling import Killed, Settling
from holdfast.watch.watcher import Watcher
from holdfast.wording import by_kind, listed
from holdfast_entrypoint.preparation import Prepared

_LOG = logging.getLogger(__name__)

_PROGRESS_EVERY = 10.0  # seconds


class Guard:
    """The watch of the checkpoint directory, and its flush. For the main thread.

    `wake` is called from another thread when the watch has ended.
    """

    def __init__(self, prepared: Prepared, *, workers: Executor, wake: Callable[[], None], stop: StopToken) -> None:
        self.superseded: SupersededError | None = None
        """Set when another attempt has taken over."""
        self._syncer = prepared.syncer
        self._background = prepared.background
        self._workers = workers
        self._wake = wake
        self._stop = stop
        self._settling = Settling()
        self._settling.finished(state for note in prepared.restored.kept for state in note.states)
        self._watcher = self._start_watcher()
        self._background.start()  # after the watch, which has to see what the script does with restored files

    def _start_watcher(self) -> Watcher:
        watcher = Watcher(
            self._syncer,
            workers=self._workers,
            on_end=lambda: self._on_end(watcher),
            stop=self._stop,
            settling=self._settling,
        )
        watcher.start()
        watcher.watching.wait()
        return watcher

    def _on_end(self, watcher: Watcher) -> None:
        if isinstance(watcher.error, SupersededError):
            self.superseded = watcher.error
        self._wake()

    def flush_soon(self) -> None:
        """Commit what is settled at once."""
        self._watcher.flush_soon()

    def flush_seconds(self) -> float:
        """Estimate the seconds of a flush: of what is not sent, or of the newest checkpoint once more."""
        newest = self._syncer.changes.newest_checkpoint_size()
        return self._syncer.bandwidth.seconds_for(max(self._watcher.dirty, newest))

    def ledger(self) -> Ledger | None:
        """Return the ledger of the last flush; None before it."""
        return self._watcher.flush.ledger() if self._watcher.flush is not None else None

    def flush(self, *, killed: Killed | None, meanwhile: Callable[[], None]) -> bool:
        """Store what is not stored yet; return whether everything is durable.

        Args:
            killed: how a signal ended the script; None if it ended by itself.
            meanwhile: called again and again until the flush has ended; takes a moment each time.
        """
        self._background.stop()
        if self.superseded is not None:
            return False
        if self._watcher.error is not None:
            self._watcher = self._start_watcher()  # the error may have passed
        self._watcher.finish(killed=killed)
        logged_at = time.monotonic()
        while self._watcher.is_alive() and not self._stop.stopped():
            meanwhile()
            if time.monotonic() - logged_at >= _PROGRESS_EVERY:
                logged_at = time.monotonic()
                self._log_progress()
        durable = self._is_durable()
        ledger = self.ledger()
        if ledger is not None and (ledger.missed or (ledger.stored and self._stop.seconds_left() < math.inf)):
            _LOG.log(logging.WARNING if ledger.missed else logging.INFO, "%s", ledger.summary)
        left = self._syncer.unsent_checkpoints() if not durable and self.superseded is None else []
        if left:
            _LOG.warning(
                "finished but not stored: %s; the next attempt on this directory resumes from it", listed(left)
            )
        return durable

    def _log_progress(self) -> None:
        flush, left = self._watcher.flush, self._stop.seconds_left()
        if flush is not None and flush.dirty:
            sent = min(flush.sent, flush.dirty)
            of_time = f"; {left:.0f} s are left" if left < math.inf else ""
            percent = 100 * sent // flush.dirty
            _LOG.info("%s", f"flushing: {sent:,} of {flush.dirty:,} bytes ({percent} %) sent{of_time}")

    def _is_durable(self) -> bool:
        """Return whether everything is durable; log what is not."""
        watcher = self._watcher
        if watcher.error is not None:
            if self.superseded is None:
                _LOG.error("the last flush failed: %s", watcher.error)
            return False
        if watcher.last is None:
            _LOG.error("the time ran out before the last flush was committed; %s", self._advice())
            return False
        # A file that is provably cut is no checkpoint yet: its writer has not finished it.
        cut = {path: why for path, why in watcher.last.unfinished.items() if isinstance(why, CutFileError)}
        for sentence in by_kind(cut, "{!r} is not in the snapshot: {}".format):
            _LOG.warning("%s", sentence)
        missed = {checkpoint_of(path): why for path, why in watcher.last.unfinished.items() if path not in cut}
        stopped = [name for name, why in missed.items() if isinstance(why, StoppedError)]
        if stopped:
            _LOG.error("not stored, no time was left: %s; %s", listed(stopped), self._advice())
        failed = {name: why for name, why in missed.items() if not isinstance(why, StoppedError)}
        for sentence in by_kind(failed, "{!r} is not stored: {}".format):
            _LOG.error("%s", sentence)
        return not missed

    def _advice(self) -> str:
        ledger = self.ledger()
        return ledger.advice if ledger is not None else "raise the stop time and HOLDFAST_GRACE_SECONDS"

    def refuse_if_superseded(self) -> None:
        """Check whether another attempt has taken over, where no commit has shown it.

        Raises:
            SupersededError: it has.
            StoreError: the store cannot be read.
        """
        try:
            self._syncer.commits.refuse_if_superseded()
        except SupersededError as error:
            self.superseded = error
            raise
