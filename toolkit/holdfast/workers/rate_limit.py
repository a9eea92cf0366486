"""Pace: how fast bytes may leave, when the operator has set a limit."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

from holdfast.errors import ConfigError

LEAST = 64_000
"""Bytes per second below which a request may take longer than a server waits for it."""
_UNITS = {
    "": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
}  # fmt: skip
_FORM = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)(?:/s)?")
_PIECES = 32  # in a second of the rate, so that many threads can share a slow line and none waits for long
_SMALLEST, _LARGEST = 1 << 12, 1 << 20
_SLACK = 0.1  # seconds of unused time that may be made up for: threads do not wake up on the dot


def parse(text: str, *, name: str) -> float:
    """Return the bytes per second that an operator wrote: 50MB/s, 20 MiB, 1000000.

    Raises:
        ConfigError: it is no rate, or one so low that requests would fail.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None or found[2] not in _UNITS:
        raise ConfigError(f"{name} must be bytes per second, such as 50MB/s or 20MiB/s; it is {text!r}")
    rate = float(found[1]) * _UNITS[found[2]]
    if rate < LEAST:
        raise ConfigError(f"{name} must be at least {LEAST // 1000}kB/s: slower requests time out; it is {text!r}")
    return rate


class RateLimit:
    """A token bucket: says how long to wait before a piece may go. Safe to use from several threads.

    Args:
        rate: bytes per second, of all threads together.
        clock: seconds.

    Attributes:
        piece: the most bytes that should be asked for at a time.
    """

    def __init__(self, rate: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.piece = min(_LARGEST, max(_SMALLEST, int(rate / _PIECES)))
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = clock()

    def take(self, size: int) -> float:
        """Book the line for `size` bytes and return the seconds until they may go."""
        with self._lock:
            now = self._clock()
            self._free_at = max(self._free_at, now - _SLACK)
            wait = self._free_at - now
            self._free_at += size / self._rate
            return max(0.0, wait)
