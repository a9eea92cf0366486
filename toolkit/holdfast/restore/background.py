"""Arrival: a thread that brings the older checkpoints while the script runs, newest first, each as a whole."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

from holdfast.errors import DamagedError, DiskFullError, HoldfastError, NotFoundError, TransientStoreError
from holdfast.restore.deferred import Deferred
from holdfast.restore.placement import Placement
from holdfast.restore.plan import PlannedCheckpoint, PlannedFile, newest
from holdfast.restore.restorer import Restored
from holdfast.restore.staging import Staging
from holdfast.snapshot.record import FileEntry
from holdfast.stop import StoppedError, StopToken
from holdfast.store import Store

_LOG = logging.getLogger(__name__)

PAUSE = 30.0
"""Seconds until it is tried again, where the store does not answer."""


class BackgroundRestore(threading.Thread):
    """Brings checkpoints that are absent. What cannot be brought stays absent, and is told; nothing ends the script.

    Args:
        store: where from.
        directory: the checkpoint directory.
        restored: what is there, and what is to come, in which order. When nothing is left of the former, the script has
            cleared the directory, and nothing more arrives. As many bytes as the newest checkpoint has stay free on the
            disk: the script is going to write the next one.
        absent: is told what comes.
        located: says where the content of a file lies now: it may be copied to another key at any time.
        workers: runs the transfers.
        stop: ends it between two parts.
    """

    def __init__(
        self,
        store: Store,
        directory: Path,
        restored: Restored,
        *,
        absent: Deferred,
        located: Callable[[str], FileEntry | None],
        workers: Executor,
        stop: StopToken,
    ) -> None:
        super().__init__(name="holdfast-arrival", daemon=True)
        self._units = restored.behind
        self._absent = absent
        self._located = located
        self._stopped = threading.Event()
        self._placing_lock = threading.Lock()
        self._stop_token = StopToken(stop, when=self._stopped.is_set)
        newest_there = newest(restored.checkpoints)
        reserve = newest_there.size if newest_there else 0
        self._staging = Staging(store, directory, workers, stop=self._stop_token, reserve=reserve)
        self._placing = Placement(directory, self._staging.root)
        self._directory = directory
        self._next = 0
        self._arrived = 0
        self._restored = [unit.name for unit in restored.checkpoints]
        self._restored += [name for it in restored.kept for name in it.checkpoints]

    def stop(self) -> None:
        """Let nothing arrive any more. What has been fetched by halves stays in staging, for the next life."""
        with self._placing_lock:
            self._stopped.set()

    def run(self) -> None:
        """Run the thread."""
        try:
            while self.step():
                pass
            if self._units:
                _LOG.info(
                    "older checkpoints: %d of %d have arrived, %s bytes fetched",
                    self._arrived, len(self._units), f"{self._staging.bytes_fetched:,}",
                )  # fmt: skip
        except (HoldfastError, OSError) as error:
            level = logging.INFO if isinstance(error, StoppedError) else logging.WARNING
            _LOG.log(level, "no older checkpoint arrives from now on, they stay in the store: %s", error)
        except Exception as error:  # noqa: BLE001  whatever it is, the script goes on
            _LOG.error("no older checkpoint arrives from now on, this is a bug in holdfast: %r", error)

    def step(self) -> bool:
        """Bring the next checkpoint, if it can be brought; return whether there may be another one behind it.

        Raises:
            StoppedError: nothing is to arrive any more.
            StoreError: the store cannot be read.
            DiskFullError: there is no room.
            OSError: the script has removed the checkpoint directory, or it may not be written.
        """
        if self._next == len(self._units):
            return False
        unit = self._units[self._next]
        self._next += 1
        if self._absent.is_wanted(unit.name):
            self._arrived += self._bring(unit)
        if self._next == len(self._units):
            self._placing.end()
        return True

    def _bring(self, unit: PlannedCheckpoint) -> bool:
        """Fetch a checkpoint and put it in place; return whether it is there."""
        while True:
            try:
                return self._put(unit, self._fetch(unit))
            except (DamagedError, NotFoundError) as error:
                _LOG.warning(
                    "older checkpoint %r does not arrive, and stays in the store as it is: %s", unit.name, error
                )
                self._placing.discard(unit)
                return False
            except DiskFullError:
                self._placing.discard(unit)
                raise
            except TransientStoreError as error:
                _LOG.warning("older checkpoint %r is tried again in %g s: %s", unit.name, PAUSE, error)
                self._stop_token.wait(PAUSE)
                self._stop_token.refuse_if_stopped(f"fetching {unit.name}")

    def _fetch(self, unit: PlannedCheckpoint) -> dict[str, int]:
        """Fetch a checkpoint from where it lies: what tidies the store may move it meanwhile."""
        while True:
            files = self._as_located(unit)
            try:
                return self._staging.fetch(files, self._staging.staged(unit.name, files))
            except (DamagedError, NotFoundError):
                if files == self._as_located(unit):
                    raise

    def _as_located(self, unit: PlannedCheckpoint) -> dict[str, PlannedFile]:
        found = {path: (file, self._located(path)) for path, file in unit.files.items()}
        return {
            path: replace(file, key=entry.key, etag=entry.etag, preserved=entry.preserved)
            if entry is not None and file.crc64nvme == entry.crc64nvme
            else file
            for path, (file, entry) in found.items()
        }

    def _put(self, unit: PlannedCheckpoint, sums: dict[str, int]) -> bool:
        foreign = {path: file.as_entry(sums[path]) for path, file in unit.files.items() if file.crc64nvme is None}
        with self._placing_lock:
            self._stop_token.refuse_if_stopped(f"restoring {unit.name}")
            if not any(os.path.lexists(self._directory / name) for name in self._restored):
                raise StoppedError("the script has removed all that was restored")
            self._absent.coming(self._staging.states(unit.files), foreign)
            arrived = self._placing.arrive(unit)
            if arrived:
                self._absent.placed(unit.name)
                self._restored.append(unit.name)
        if not arrived:
            self._placing.discard(unit)
        return arrived
