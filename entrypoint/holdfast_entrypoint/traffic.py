"""The traffic of one life with its stores: threads, requests at a time, bandwidth and its limit."""

from __future__ import annotations

import time
from collections.abc import Mapping

from holdfast.stop import StopToken
from holdfast.store import Store
from holdfast.store.location import Location
from holdfast.store.open import open_store
from holdfast.workers.bandwidth import Bandwidth
from holdfast.workers.concurrency import Concurrency
from holdfast.workers.pool import Workers


class Traffic:
    """Workers and bandwidth for every store of one life.

    `upload_limit` is in bytes per second, and holds at low priority.
    """

    def __init__(self, environ: Mapping[str, str], *, upload_limit: float | None, stop: StopToken) -> None:
        self._environ = environ
        self._stop = stop
        self._limited = upload_limit is not None
        self._concurrency = Concurrency()
        self.workers = Workers(concurrency=self._concurrency, upload_limit=upload_limit)
        self.bandwidth = Bandwidth(time.monotonic)

    def open(self, place: Location) -> Store:
        """Open a store."""
        return open_store(place, self._environ, stop=self._stop, allow=self._allow, concurrency=self._concurrency)

    def _allow(self, wanted: int) -> int:
        allowed = self.workers.allow(wanted)
        self.bandwidth.leaving(allowed)
        return allowed

    def use_full_speed(self) -> None:
        """Transfer at normal priority and without a limit."""
        if self._limited:
            self.bandwidth.forget()  # it was measured under the limit
        self._limited = False
        self.workers.use_normal_priority()
