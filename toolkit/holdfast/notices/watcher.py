"""Poll for notices that this machine will go away: instance metadata, and a file from the host."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from holdfast.errors import HoldfastError
from holdfast.notices.imds import (
    LONGEST_BODY,
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
"""Seconds between two polls: what a poll costs at most of the two minutes that EC2 gives."""

_FIRST_PAUSE = 30.0
_LONGEST_PAUSE = 60.0


class HostNoticeError(HoldfastError):
    """The host's notice file exists and cannot be read."""


def read_host_notice(path: Path, *, clock: Callable[[], float] = time.time) -> Notice | None:
    """Return the notice in the host's notice file, or None while there is no such file.

    A file of any content is a notice; it may be the JSON of an instance-action. Raises HostNoticeError.
    """
    try:
        with path.open("rb") as file:
            body = file.read(LONGEST_BODY)
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


@dataclass(eq=False)
class NoticeWatcher:
    """Thread that polls for notices until `stop`.

    A notice is reported once, from the thread, and again only after it was withdrawn: EC2 repeats it at every poll, and
    test servers move its time with each answer. Each kind of error is logged once; an endpoint without a server only
    where metadata is expected, or has answered before.
    """

    client: MetadataClient | None
    _: KW_ONLY
    host_file: Path | None
    on_notice: Callable[[Notice], None]
    expect_metadata: bool = False
    interval: float = POLL_SECONDS
    clock: Callable[[], float] = time.time
    ticks: Callable[[], float] = time.monotonic
    _reported: set[tuple[NoticeKind, str]] = field(default_factory=set)
    _warned: set[type[HoldfastError]] = field(default_factory=set)
    _answered: bool = False
    _pause: float = _FIRST_PAUSE
    _next_request: float = -math.inf
    _stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="holdfast-notices", daemon=True)

    def start(self) -> None:
        """Start the thread, if there is anything to poll; the caller never waits for the network."""
        if self.client is not None or self.host_file is not None:
            self._thread.start()

    def stop(self) -> None:
        """Report no more notices, and end the thread, without waiting for a request in flight."""
        self._stopping.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(0.25)

    def poll(self) -> list[Notice]:
        """Return new notices: from the host, a spot interruption, a rebalance recommendation."""
        found: list[Notice] = []
        try:
            if self.host_file is not None:
                found += self._new("host", read_host_notice(self.host_file, clock=self.clock))
        except HostNoticeError as error:
            self._warn_once(error)
        try:
            if self.client is not None and self.ticks() >= self._next_request:
                found += self._new("spot", self.client.spot_action())
                self._answered = True
                found += self._new("rebalance", self.client.rebalance())
        except MetadataError as error:
            self._back_off(error)
        return found

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                for notice in self.poll():
                    if not self._stopping.is_set():
                        self.on_notice(notice)
                self._stopping.wait(self.interval)
        except BaseException as error:
            # A thread that ends without a log line misses the next interruption unnoticed.
            _LOG.error("the watch for interruption notices has failed, notices are not seen from now on: %r", error)
            raise
        finally:
            if self.client is not None:
                self.client.close()

    def _new(self, kind: NoticeKind, notice: Notice | None) -> list[Notice]:
        if notice is None:
            self._reported = {entry for entry in self._reported if entry[0] != kind}
            return []
        if (kind, notice.action) in self._reported:
            return []
        self._reported.add((kind, notice.action))
        return [notice]

    def _back_off(self, error: MetadataError) -> None:
        """Delay the next request, except where metadata has answered before: there may be a notice."""
        unreachable = isinstance(error, MetadataUnreachableError)
        if self._answered or self.expect_metadata or not unreachable:
            self._warn_once(error)
        if not self._answered and not isinstance(error, MetadataFaultError):
            self._next_request = self.ticks() + (self._pause if unreachable else _LONGEST_PAUSE)
            self._pause = _LONGEST_PAUSE

    def _warn_once(self, error: HoldfastError) -> None:
        if type(error) not in self._warned and not self._stopping.is_set():
            self._warned.add(type(error))
            _LOG.warning("%s", error)
