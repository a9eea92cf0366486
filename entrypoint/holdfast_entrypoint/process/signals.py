"""Signal handlers that only record; the supervisor's loop acts."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from holdfast_entrypoint.process.inbox import Inbox

STOP = frozenset({signal.SIGTERM, signal.SIGINT})
"""Signals that announce the end of the container."""
PASSED_ON = frozenset({signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT})
"""Signals that are passed on to the script."""


def block() -> None:
    """Keep SIGTERM and SIGINT pending: when the exit code has been decided."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)


def unblock() -> None:
    """Let SIGTERM and SIGINT end this process: for commands that are called by hand."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)


@dataclass(frozen=True, slots=True)
class Received:
    """A signal that has arrived."""

    signal: signal.Signals


@contextmanager
def recorded(inbox: Inbox) -> Iterator[None]:
    """Record signals in the inbox, and restore the earlier handlers at the end."""

    def record(number: int, _frame: FrameType | None) -> None:
        inbox.note(Received(signal.Signals(number)))

    before = {number: signal.signal(number, record) for number in STOP | PASSED_ON | {signal.SIGCHLD}}
    # Python's C handler writes to this descriptor in any thread, which ends the wait of the main thread.
    wakeup_before = signal.set_wakeup_fd(inbox.wakeup_fd, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup_before)
        for number, handler in before.items():
            signal.signal(number, handler)
