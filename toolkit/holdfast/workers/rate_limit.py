"""Limit the bytes per second that leave, as the operator sets it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

from holdfast.errors import ConfigError

LOWEST = 64_000
"""Bytes per second below which a request may take longer than a server waits for it."""
_UNITS = {
    "": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
}  # fmt: skip
_FORM = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)(?:/s)?")
_STEPS = 32  # in a second at the rate, so that many threads can share a slow network and none waits for long
_SMALLEST, _LARGEST = 1 << 12, 1 << 20
_SLACK = 0.1  # seconds of unused time that may be made up for: threads wake up late


def parse(text: str, *, name: str) -> float:
    """Return the bytes per second of a text such as 50MB/s, 20 MiB or 1000000.

    Raises:
        ConfigError: the text is not a rate, or the rate is so low that requests would fail.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None or match[2] not in _UNITS:
        raise ConfigError(f"{name} must be bytes per second, such as 50MB/s or 20MiB/s; it is {text!r}")
    rate = float(match[1]) * _UNITS[match[2]]
    if rate < LOWEST:
        raise ConfigError(f"{name} must be at least {LOWEST // 1000}kB/s: slower requests time out; it is {text!r}")
    return rate


class RateLimit:
    """A token bucket: says how long to wait before bytes may be sent. Safe to use from several threads.

    Args:
        rate: bytes per second, of all threads together.
        clock: monotonic time in seconds.

    Attributes:
        step: the most bytes that should be requested at a time.
    """

    def __init__(self, rate: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.step = min(_LARGEST, max(_SMALLEST, int(rate / _STEPS)))
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = clock()

    def take(self, size: int) -> float:
        """Reserve `size` bytes and return the seconds until they may be sent."""
        with self._lock:
            now = self._clock()
            self._free_at = max(self._free_at, now - _SLACK)
            wait = self._free_at - now
            self._free_at += size / self._rate
            return max(0.0, wait)
