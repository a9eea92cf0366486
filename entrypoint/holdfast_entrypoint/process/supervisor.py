"""Supervision: the one loop that hears signals and notices, and decides what the script is told."""

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
    """The event that another attempt has taken over the prefix."""


LEFTOVER_SECONDS = 5.0
"""What processes that outlive the script get between SIGTERM and SIGKILL."""
_TICK = 0.05
_IDLE = 10.0


class Supervisor:
    """Handles every event of one life, in the main thread.

    Args:
        interruption: what notices and signals add up to.
        stop_signal: what the script gets when it has to stop.
        checkpoints: the checkpoint directory.
        flush_seconds: says how long storing what is dirty is expected to take.
        on_stop: called when it is first known that everything must end.
        on_rebalance: called when a rebalance recommendation comes.
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
        """Whether the script was running when it was told to stop."""
        self.killed: Killed | None = None
        """How a signal ended the script, or somebody beside it; None when all went by themselves, asked or not."""
        self._interruption = interruption
        self._stop_signal = stop_signal
        self._flush_seconds = flush_seconds
        self._on_stop = on_stop
        self._on_rebalance = on_rebalance
        self._checkpoints = checkpoints
        self._child: Child | None = None
        self._signalled_at = 0.0

    def handle(self, timeout: float = _TICK) -> None:
        """Wait for an event, at most `timeout` seconds, and act on all that are there."""
        for event in self.inbox.wait(timeout):
            self._act(event)

    def in_background(self, work: Callable[[], T], *, stop: StopToken) -> T | None:
        """Run work in a thread while events are handled here.

        Returns what it returned, or None when stopped: the work is not waited for any longer then.

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
        """Wait until the script has ended by itself, or has been ended: signal, patience, SIGKILL."""
        self._child = child
        while not self.script_was_stopped:
            self.handle(_IDLE)
            child.reap()
            if child.exit_code is not None and not self.script_was_stopped:
                # Nobody has looked who writes. 128+n is how a shell says that a signal ended what ran in it.
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
            child.look_who_writes(self._checkpoints)
            child.reap()
            child.signal_orphans(self._stop_signal)
        child.reap()
        self.killed = Killed(self._signalled_at, seen=True, writing=child.cut_off(), script_died=child.died_of_signal)

    def _kill(self, child: Child) -> None:
        child.look_who_writes(self._checkpoints)
        self._signalled_at = time.monotonic()
        child.kill()

    def _end_leftovers(self, child: Child) -> None:
        """End what the script started and left behind, as the end of a container's PID 1 would."""
        if child.alive():
            child.look_who_writes(self._checkpoints)
            child.signal(signal.SIGTERM)
        give_up = time.monotonic() + LEFTOVER_SECONDS
        while child.alive() and time.monotonic() < give_up and not self._interruption.stop.stopped():
            self.handle()
            child.look_who_writes(self._checkpoints)
            child.reap()
        self._kill(child)

    def _act(self, event: object) -> None:
        if isinstance(event, signals.Received):
            if event.signal in signals.STOP:
                self._stop(partial(self._interruption.hear_signal, event.signal.name, flush=self._flush_seconds()))
            elif event.signal in signals.PASSED_ON and self._child is not None:
                self._child.signal(event.signal)
        elif isinstance(event, Notice):
            self._stop(partial(self._interruption.hear_notice, event, flush=self._flush_seconds()))
            if event.kind == "rebalance":
                self._on_rebalance()
        elif isinstance(event, Superseded):
            self._stop(self._interruption.hear_superseded)

    def _stop(self, hear: Callable[[], bool]) -> None:
        """Take what stops the script, and signal it, unless that was done or it has ended."""
        child = self._child
        if child is not None:
            child.reap()
        # Looked before it is heard: a script that reads the notice file and ends at once was stopped by it.
        running = child is not None and child.exit_code is None
        if not hear():
            return
        if child is not None and running:
            self.script_was_stopped = True
            child.look_who_writes(self._checkpoints)
            self._signalled_at = time.monotonic()
            child.signal(self._stop_signal)
        self._on_stop()
