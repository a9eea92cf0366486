"""The guard of the checkpoints of one life: watches them while the script runs, and flushes them after it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

from holdfast.errors import CutFileError, SupersededError
from holdfast.names import checkpoint_of
from holdfast.stop import StoppedError, StopToken
from holdfast.sync.ledger import Ledger
from holdfast.watch.settling import Killed, Settling
from holdfast.watch.watcher import Watcher
from holdfast.wording import by_kind, listed
from holdfast_entrypoint.preparation import Prepared

_LOG = logging.getLogger(__name__)

_PROGRESS_EVERY = 10.0


class Guard:
    """Keeps the prefix up to date with the checkpoint directory. Belongs to the main thread.

    Args:
        prepared: what the restore left.
        directory: the checkpoint directory.
        workers: look at the directory.
        wake: called from another thread when there is something to look at here.
        stop: its deadline is when the container is killed; it may appear and move.
    """

    def __init__(
        self,
        prepared: Prepared,
        directory: Path,
        *,
        workers: Executor,
        wake: Callable[[], None],
        stop: StopToken,
    ) -> None:
        self.superseded: SupersededError | None = None
        """How it is known that another attempt has taken over; None while it is not."""
        self._syncer = prepared.syncer
        self._background = prepared.background
        self._directory = directory
        self._workers = workers
        self._wake = wake
        self._stop = stop
        settling = Settling()
        settling.finished(state for it in prepared.restored.kept for state in it.states)
        self._watcher = self._start(settling)
        self._background.start()  # behind the watch, so that it hears of what the script does with what comes

    def _start(self, settling: Settling) -> Watcher:
        watcher = Watcher(
            self._syncer,
            self._directory,
            workers=self._workers,
            on_end=lambda: self._ended(watcher),
            stop=self._stop,
            settling=settling,
        )
        watcher.start()
        watcher.watching.wait()
        return watcher

    def _ended(self, watcher: Watcher) -> None:
        if isinstance(watcher.error, SupersededError):
            self.superseded = watcher.error
        self._wake()

    @property
    def uploaded(self) -> int:
        """Bytes of content that travelled in this attempt."""
        return self._syncer.uploaded

    @property
    def snapshots(self) -> int:
        """Snapshots committed in this attempt."""
        return self._syncer.snapshots

    def flush_soon(self) -> None:
        """Store what is settled at the next opportunity."""
        self._watcher.flush_soon()

    def flush_seconds(self) -> float:
        """Guess how long the flush will take: what is dirty, or else the newest checkpoint once more."""
        bandwidth = self._syncer.bandwidth
        return bandwidth.seconds_for(max(self._watcher.dirty, self._syncer.changes.newest_checkpoint_size()))

    def ledger(self) -> Ledger | None:
        """Return what the last flush has done; None before there was one."""
        return self._watcher.flush.ledger() if self._watcher.flush is not None else None

    def flush(self, *, killed: Killed | None, meanwhile: Callable[[], None]) -> bool:
        """Store what is not stored yet; return whether everything is durable.

        Args:
            killed: how a signal ended the script; None when it ended by itself.
            meanwhile: called again and again until that is done; takes a moment each time.
        """
        self._background.stop()
        if self.superseded is not None:
            return False
        if self._watcher.error is not None:
            self._watcher = self._start(self._watcher.settling)  # what ended the old thread may have been of the moment
        self._watcher.finish(killed=killed)
        said = time.monotonic()
        while self._watcher.is_alive() and not self._stop.stopped():
            meanwhile()
            if time.monotonic() - said >= _PROGRESS_EVERY:
                said = time.monotonic()
                self._say_progress(self._stop.seconds_left())
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

    def _say_progress(self, left: float) -> None:
        flush = self._watcher.flush
        if flush is not None and flush.dirty:
            sent = min(flush.sent, flush.dirty)
            of_time = f"; {left:.0f} s are left" if left < math.inf else ""
            percent = 100 * sent // flush.dirty
            _LOG.info("%s", f"flushing: {sent:,} of {flush.dirty:,} bytes ({percent} %) sent{of_time}")

    def _is_durable(self) -> bool:
        watcher = self._watcher
        if watcher.error is not None:
            if self.superseded is None:
                _LOG.error("the last flush failed: %s", watcher.error)
            return False
        if watcher.last is None:
            _LOG.error("the time ran out before the last flush was committed; %s", self._advice())
            return False
        # What is provably not whole is no checkpoint yet: nobody finished it.
        late = {path: why for path, why in watcher.last.unfinished.items() if not isinstance(why, CutFileError)}
        cut = {path: why for path, why in watcher.last.unfinished.items() if path not in late}
        for sentence in by_kind(cut, "{!r} is not in the snapshot: {}".format):
            _LOG.warning("%s", sentence)
        missed = {checkpoint_of(path): why for path, why in late.items()}
        stopped = [name for name, why in missed.items() if isinstance(why, StoppedError)]
        if stopped:
            _LOG.error("not stored, no time was left: %s; %s", listed(stopped), self._advice())
        failed = {name: why for name, why in missed.items() if not isinstance(why, StoppedError)}
        for sentence in by_kind(failed, "{!r} is not stored: {}".format):
            _LOG.error("%s", sentence)
        return not late

    def _advice(self) -> str:
        ledger = self.ledger()
        return ledger.advice if ledger is not None else "raise the stop time and HOLDFAST_GRACE_SECONDS"

    def refuse_if_superseded(self) -> None:
        """Look whether another attempt has taken over, where no commit has shown it.

        Raises:
            SupersededError: it has.
            StoreError: the store cannot be read.
        """
        try:
            self._syncer.commits.refuse_if_superseded()
        except SupersededError as error:
            self.superseded = error
            raise
