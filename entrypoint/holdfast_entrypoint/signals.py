"""Signals: handlers that only record; the lifecycle's loop decides."""

from __future__ import annotations

import queue
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

STOP = frozenset({signal.SIGTERM, signal.SIGINT})
"""Signals that mean: this container is going away."""
PASSED_ON = frozenset({signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT})
"""Signals that are the script's own business."""


def hold_back() -> None:
    """Keep SIGTERM and SIGINT pending until `recorded` is there to hear them.

    The kernel throws away a signal that PID 1 has no handler for; one that is blocked it keeps.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)


@dataclass(frozen=True, slots=True)
class Received:
    """A signal that came."""

    signal: signal.Signals


@contextmanager
def recorded(events: queue.SimpleQueue[object]) -> Iterator[None]:
    """Record every signal of interest in `events`; on leaving, the handlers are as before.

    SimpleQueue.put is the one queue operation that may interrupt itself, which is what a signal handler does.
    """

    def record(number: int, _frame: FrameType | None) -> None:
        events.put(Received(signal.Signals(number)))

    before = {number: signal.signal(number, record) for number in STOP | PASSED_ON | {signal.SIGCHLD}}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
