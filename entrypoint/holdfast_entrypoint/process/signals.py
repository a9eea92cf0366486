"""Signals: handlers that only record; the lifecycle's loop decides."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from holdfast_entrypoint.process.inbox import Inbox

STOP = frozenset({signal.SIGTERM, signal.SIGINT})
"""Signals that mean: this container is going away."""
PASSED_ON = frozenset({signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT})
"""Signals that are the script's own business."""


def hold_back() -> None:
    """Keep SIGTERM and SIGINT pending: before somebody is there to hear them, and when all has been decided."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)


def heard_by_default() -> None:
    """Let SIGTERM and SIGINT end this process as they end any other: for what is not a container's life."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)


@dataclass(frozen=True, slots=True)
class Received:
    """A signal that came."""

    signal: signal.Signals


@contextmanager
def recorded(inbox: Inbox) -> Iterator[None]:
    """Record every signal of interest in the inbox; on leaving, the handlers are as before."""

    def record(number: int, _frame: FrameType | None) -> None:
        inbox.note(Received(signal.Signals(number)))

    before = {number: signal.signal(number, record) for number in STOP | PASSED_ON | {signal.SIGCHLD}}
    # The C level writes to this descriptor in whatever thread a signal arrives, and so ends the main thread's wait.
    wakeup_before = signal.set_wakeup_fd(inbox.wakeup_fd, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup_before)
        for number, handler in before.items():
            signal.signal(number, handler)
