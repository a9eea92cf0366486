"""Notices that this machine will go away: from EC2's instance metadata, and from a file that the host drops.

`NoticeWatcher` is a thin thread around `NoticeWatcher.poll`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from holdfast.errors import HoldfastError
from holdfast.notices.imds import (
    MetadataClient,
    MetadataError,
    MetadataFaultError,
    MetadataUnreachableError,
    Notice,
    NoticeKind,
    parse_action,
)

_LOG = logging.getLogger(__name__)

POLL_SECONDS = 1.5
"""Of the two minutes that EC2 gives, at most this much is lost to looking."""

_FIRST_PAUSE = 30.0
_LONGEST_PAUSE = 60.0
_LONGEST_NOTICE = 65_536


class HostNoticeError(HoldfastError):
    """The host's notice file is there and cannot be read."""


def read_host_notice(path: Path, *, clock: Callable[[], float] = time.time) -> Notice | None:
    """Return the notice that the host has dropped, or None while there is no such file.

    The file says it by being there. It may be empty, or hold any text, or the JSON of an instance-action.

    Raises:
        HostNoticeError: there is something at the path that cannot be read.
    """
    try:
        with path.open("rb") as file:
            body = file.read(_LONGEST_NOTICE)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError as error:
        raise HostNoticeError(
            f"the host notice file {path} is a directory, as Docker makes one for a mount whose source is absent: "
            "mount the directory in which the file will appear, not the file"
        ) from error
    except OSError as error:
        raise HostNoticeError(f"the host notice file {path} cannot be read: {error.strerror}") from error
    return parse_action("host", body, clock())


class NoticeWatcher:
    """Looks for notices until it is stopped.

    A notice is reported once, and again only after it was withdrawn in between: EC2 gives the same one to every poll,
    and test doubles move its time with each answer. Trouble is told once of each kind. That nothing listens at the
    endpoint is told only where metadata is expected, or has answered before.

    Args:
        client: instance metadata; None where there is none (`AWS_EC2_METADATA_DISABLED`).
        host_file: where the host drops a notice; None where it drops none.
        on_notice: called with each new notice, from the thread.
        expect_metadata: this platform has instance metadata, so its absence is worth a sentence.
        interval: seconds between two polls.
        clock: seconds since the epoch.
        ticks: a monotonic clock in seconds.
    """

    def __init__(
        self,
        client: MetadataClient | None,
        *,
        host_file: Path | None,
        on_notice: Callable[[Notice], None],
        expect_metadata: bool = False,
        interval: float = POLL_SECONDS,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._host_file = host_file
        self._on_notice = on_notice
        self._expect_metadata = expect_metadata
        self._interval = interval
        self._clock = clock
        self._ticks = ticks
        self._reported: set[tuple[NoticeKind, str]] = set()
        self._warned: set[type[HoldfastError]] = set()
        self._answered = False
        self._pause = _FIRST_PAUSE
        self._next_request = -float("inf")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="holdfast-notices", daemon=True)

    def start(self) -> None:
        """Begin to look, at once and in a thread of its own; the caller never waits for the network."""
        if self._client is not None or self._host_file is not None:
            self._thread.start()

    def stop(self) -> None:
        """End the watch, and report nothing any more.

        A request in flight is not waited for: its thread ends with the request's own time-out, and with the process.
        """
        self._stopping.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(0.25)

    def poll(self) -> list[Notice]:
        """Look once and return what is new: the host's word first, then a spot interruption, then a recommendation."""
        return [*self._look_at_host_file(), *self._ask_metadata()]

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                for notice in self.poll():
                    if not self._stopping.is_set():
                        self._on_notice(notice)
                self._stopping.wait(self._interval)
        except BaseException as error:
            # A watch that dies in silence loses the job at the next interruption.
            _LOG.error("the watch for interruption notices has failed, notices are not seen from now on: %r", error)
            raise
        finally:
            if self._client is not None:
                self._client.close()

    def _look_at_host_file(self) -> list[Notice]:
        if self._host_file is None:
            return []
        try:
            return self._new("host", read_host_notice(self._host_file, clock=self._clock))
        except HostNoticeError as error:
            self._warn_once(error)
            return []

    def _ask_metadata(self) -> list[Notice]:
        if self._client is None or self._ticks() < self._next_request:
            return []
        found: list[Notice] = []
        try:
            found += self._new("spot", self._client.spot_action())
            self._answered = True
            found += self._new("rebalance", self._client.rebalance())
        except MetadataError as error:
            self._hold_back(error)
        return found

    def _new(self, kind: NoticeKind, notice: Notice | None) -> list[Notice]:
        if notice is None:
            self._reported = {known for known in self._reported if known[0] != kind}
            return []
        if (kind, notice.action) in self._reported:
            return []
        self._reported.add((kind, notice.action))
        return [notice]

    def _hold_back(self, error: MetadataError) -> None:
        """Decide when to ask again: where metadata has answered before, at the next poll, for a notice may be there."""
        if self._answered or isinstance(error, MetadataFaultError):
            self._warn_once(error)
            return
        if isinstance(error, MetadataUnreachableError):
            pause, self._pause = self._pause, _LONGEST_PAUSE
            if self._expect_metadata:
                self._warn_once(error)
        else:
            pause = _LONGEST_PAUSE
            self._warn_once(error)
        self._next_request = self._ticks() + pause

    def _warn_once(self, error: HoldfastError) -> None:
        if type(error) not in self._warned and not self._stopping.is_set():
            self._warned.add(type(error))
            _LOG.warning("%s", error)
