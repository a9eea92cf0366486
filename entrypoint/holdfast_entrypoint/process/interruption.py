"""Interruption: the one deadline that follows from all notices and signals."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path

from holdfast.notices.imds import Notice
from holdfast.stop import StopToken
from holdfast_entrypoint.process import notice_file
from holdfast_entrypoint.process.deadline import Deadline

_LOG = logging.getLogger(__name__)

DUPLICATE_SECONDS = 1.0
"""Seconds in which a second signal counts as the same stop (docker and a group signal may both send one)."""
HURRY_SECONDS = 2.0
"""Seconds that a later second signal leaves the script."""
_MARGIN_SECONDS = 2.0
_LONGEST_NOTICE = 120.0


class Interruption:
    """Whether this container is about to end, since when, and until when.

    Args:
        grace: seconds between SIGTERM and SIGKILL.
        notice_path: path of HOLDFAST_NOTICE_FILE.
        ticks: monotonic clock, in seconds.
        clock: wall clock, in seconds since the epoch.
    """

    def __init__(
        self,
        *,
        grace: float,
        notice_path: Path,
        ticks: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self.deadline: Deadline | None = None
        """None before the first stop."""
        self.stop = StopToken(seconds_left=self._seconds_left)
        """Its deadline is `deadline.end`; it has none before the first stop."""
        self.kind: str | None = None
        """Cause of the first stop: spot, host, signal or superseded."""
        self.began: float | None = None
        """Time of the first stop, by the monotonic clock."""
        # The end of this process takes a moment: the exit code must be out before the SIGKILL.
        self._grace = grace - min(_MARGIN_SECONDS / 2, grace / 20)
        self._notice_path = notice_path
        self._ticks = ticks
        self._clock = clock
        self._last_signal = -math.inf

    def on_signal(self, name: str, *, flush: float) -> bool:
        """Set the deadline after a SIGTERM or SIGINT; return whether the script must be stopped now.

        Args:
            name: name of the signal.
            flush: expected duration of the flush, in seconds.
        """
        now = self._ticks()
        repeated = self._last_signal > -math.inf
        if now - self._last_signal < DUPLICATE_SECONDS:
            return False
        self._last_signal = now
        if repeated and self.deadline is not None:
            _LOG.warning("%s again: the script gets at most %g s more", name, HURRY_SECONDS)
            self._set(self.deadline.hurried(now, HURRY_SECONDS), "signal")
            return False
        _LOG.warning("%s: %g s until the container is killed", name, round(self._grace, 1))
        return self._set(Deadline.after(self._grace, now, flush=flush), "signal")

    def on_notice(self, notice: Notice, *, flush: float) -> bool:
        """Set the deadline after a notice; return whether the script must be stopped now."""
        if notice.kind == "rebalance":
            _LOG.info("%s: storing settled checkpoints now, training goes on", notice.detail)
            if self.deadline is None:
                self._write(kind="rebalance", stop=False, stop_by=None, deadline=None)
            return False
        seconds = self._grace
        if notice.deadline is not None:
            seconds = min(_LONGEST_NOTICE, max(1.0, notice.deadline - self._clock()))
            # the clock of the host may differ, and EC2 calls its own time approximate
            seconds -= min(_MARGIN_SECONDS, seconds / 5)
        _LOG.warning("%s: stopping within %.0f s", notice.detail, seconds)
        return self._set(Deadline.after(seconds, self._ticks(), flush=flush), notice.kind)

    def on_superseded(self) -> bool:
        """Set the deadline when another attempt has taken over; return whether the script must be stopped now."""
        return self._set(Deadline.after(self._grace, self._ticks(), flush=0.0), "superseded")

    def _seconds_left(self) -> float:
        return math.inf if self.deadline is None else self.deadline.remaining(self._ticks())

    def _set(self, deadline: Deadline, kind: str) -> bool:
        """Keep the sooner deadline and write it to the notice file; return whether it is the first."""
        first = self.deadline is None
        self.deadline = deadline if self.deadline is None else self.deadline.sooner(deadline)
        if first:
            self.kind, self.began = kind, self._ticks()
        to_wall = self._clock() - self._ticks()
        self._write(
            kind=self.kind or kind,
            stop=True,
            stop_by=self.deadline.stop_by + to_wall,
            deadline=self.deadline.end + to_wall,
        )
        return first

    def _write(self, *, kind: str, stop: bool, stop_by: float | None, deadline: float | None) -> None:
        try:
            notice_file.write(self._notice_path, kind=kind, stop=stop, stop_by=stop_by, deadline=deadline)
        except OSError as error:  # a full disk: the script still gets the signal
            _LOG.warning("the notice file cannot be written: %s", error)
