"""What came in and went out, by kind of request."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter


class Counters:
    """Counts requests and bytes. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[str] = Counter()
        self._received = self._sent = 0
        self._cpu = _cpu_seconds()

    def add(self, kind: str, *, received: int, sent: int) -> None:
        """Count a request.

        Args:
            kind: as S3 names it: PutObject, UploadPart, …
            received: bytes of its head and its body as they came over the connection, inside of TLS.
            sent: bytes of the answer without the content of an object, likewise.
        """
        with self._lock:
            self._requests[kind] += 1
            self._received += received
            self._sent += sent

    def add_sent(self, size: int) -> None:
        """Count bytes of the content of an object."""
        with self._lock:
            self._sent += size

    def reset(self) -> None:
        """Begin anew."""
        with self._lock:
            self._requests.clear()
            self._received = self._sent = 0
            self._cpu = _cpu_seconds()

    def as_json(self) -> bytes:
        """Return all counters since the last reset; CPU in seconds."""
        with self._lock:
            counted = {
                "requests": dict(self._requests),
                "received": self._received,
                "sent": self._sent,
                "cpu_seconds": _cpu_seconds() - self._cpu,
            }
        return json.dumps(counted).encode()


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system
