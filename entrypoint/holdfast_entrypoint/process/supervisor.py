"""Supervisor: the one loop that acts on signals, notices and the end of the script."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TypeVar

from holdfast.notices.imds import Notice
from holdfast.stop import StopToken
from holdfast.watch.settling import Killed
from holdfast_entrypoint.process import signals
from holdfast_entrypoint.process.child import Child
from holdfast_entrypoint.process.inbox import Inbox
from holdfast_entrypoint.process.interruption import Interruption

_LOG = logging.getLogger(__name__)

T = TypeVar("T")


class Superseded:
    """Event: another attempt has taken over the prefix."""


LEFTOVER_SECONDS = 5.0
"""Seconds between SIGTERM and SIGKILL for processes that outlive the script."""
_TICK = 0.05
_IDLE = 10.0


class Supervisor:
    """Handle every event of one attempt, in the main thread.

    Args:
        interruption: deadline of the container.
        stop_signal: signal that stops the script.
        checkpoints: checkpoint directory.
        flush_seconds: returns the expected duration of the flush, in seconds.
        on_stop: called at the first stop.
        on_rebalance: called at a rebalance recommendation.
    """

    def __init__(
        self,
        interruption: Interruption,
        *,
        stop_signal: signal.Signals,
        checkpoints: Path,
        flush_seconds: Callable[[], float],
        on_stop: Callable[[], None],
        on_rebalance: Callable[[], None],
    ) -> None:
        self.inbox = Inbox()
        self.script_was_stopped = False
        """Whether the script was running when it was stopped."""
        self.killed: Killed | None = None
        """The end of the script, or of a process beside it, by a signal; None where all ended by themselves."""
        self._interruption = interruption
        self._stop_signal = stop_signal
        self._flush_seconds = flush_seconds
        self._on_stop = on_stop
        self._on_rebalance = on_rebalance
        self._checkpoints = checkpoints
        self._child: Child | None = None
        self._signalled_at = 0.0

    def handle(self, timeout: float = _TICK) -> None:
        """Wait for an event, at most `timeout` seconds, and act on all that have come."""
        for event in self.inbox.wait(timeout):
            self._act(event)

    def in_background(self, work: Callable[[], T], *, stop: StopToken) -> T | None:
        """Run work in a thread and handle events meanwhile.

        Returns its result, or None when stopped; then the thread is left to itself.

        Raises:
            Exception: what the work raised.
        """
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001  handed to the waiting thread
                future.set_exception(error)
            self.inbox.wake()

        threading.Thread(target=run, name="holdfast-work", daemon=True).start()
        while not future.done() and not stop.stopped():
            self.handle(min(_IDLE, self._interruption.stop.seconds_left()))
        return None if stop.stopped() else future.result()

    def wait_for_script(self, child: Child) -> None:
        """Wait until the script has ended; at a stop: signal, wait until the deadline, SIGKILL."""
        self._child = child
        while not self.script_was_stopped:
            self.handle(_IDLE)
            child.reap()
            if child.exit_code is not None and not self.script_was_stopped:
                # Its writers were not noted. A shell returns 128+n where signal n ended the command in it.
                died = child.died_of_signal or 128 < child.exit_code < 160
                ended = time.monotonic()
                self._end_leftovers(child)
                if died:
                    self.killed = Killed(ended, writing=child.cut_off())
                elif child.cut_off():
                    self.killed = Killed(ended, seen=True, writing=child.cut_off(), script_died=False)
                return
        while child.alive():
            deadline = self._interruption.deadline
            if deadline is not None and time.monotonic() >= deadline.stop_by:
                _LOG.warning("the script has not ended in time: SIGKILL; the remaining time is for the flush")
                self._kill(child)
                break
            self.handle()
            child.note_writers(self._checkpoints)
            child.reap()
            child.signal_orphans(self._stop_signal)
        child.reap()
        self.killed = Killed(self._signalled_at, seen=True, writing=child.cut_off(), script_died=child.died_of_signal)

    def _kill(self, child: Child) -> None:
        child.note_writers(self._checkpoints)
        self._signalled_at = time.monotonic()
        child.kill()

    def _end_leftovers(self, child: Child) -> None:
        """End the processes that outlive the script, as the end of a container's PID 1 does."""
        if child.alive():
            child.note_writers(self._checkpoints)
            child.signal(signal.SIGTERM)
        give_up = time.monotonic() + LEFTOVER_SECONDS
        while child.alive() and time.monotonic() < give_up and not self._interruption.stop.stopped():
            self.handle()
            child.note_writers(self._checkpoints)
            child.reap()
        self._kill(child)

    def _act(self, event: object) -> None:
        if isinstance(event, signals.Received):
            if event.signal in signals.STOP:
                self._stop(partial(self._interruption.on_signal, event.signal.name, flush=self._flush_seconds()))
            elif event.signal in signals.PASSED_ON and self._child is not None:
                self._child.signal(event.signal)
        elif isinstance(event, Notice):
            self._stop(partial(self._interruption.on_notice, event, flush=self._flush_seconds()))
            if event.kind == "rebalance":
                self._on_rebalance()
        elif isinstance(event, Superseded):
            self._stop(self._interruption.on_superseded)

    def _stop(self, set_deadline: Callable[[], bool]) -> None:
        """Set the deadline, and stop the script at the first stop if it is running."""
        child = self._child
        if child is not None:
            child.reap()
        # Before the notice file is written: a script that reads it and ends at once was stopped by it.
        running = child is not None and child.exit_code is None
        if not set_deadline():
            return
        if child is not None and running:
            self.script_was_stopped = True
            child.note_writers(self._checkpoints)
            self._signalled_at = time.monotonic()
            child.signal(self._stop_signal)
        self._on_stop()
