"""Restore the deferred checkpoints in a thread while the script runs."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

from holdfast.errors import DamagedError, DiskFullError, HoldfastError, NotFoundError, TransientStoreError
from holdfast.local import scan
from holdfast.restore.deferred import Deferred
from holdfast.restore.placement import Placement
from holdfast.restore.plan import UNKNOWN, PlannedCheckpoint, newest
from holdfast.restore.request import Restored
from holdfast.restore.staging import Staging
from holdfast.snapshot.record import FileEntry
from holdfast.stop import StoppedError, StopToken
from holdfast.store import Store

_LOG = logging.getLogger(__name__)

PAUSE = 30.0
"""Seconds until a checkpoint is tried again when the store does not answer."""


class BackgroundRestore(threading.Thread):
    """Restore the deferred checkpoints while the script runs, newest first, each as a whole.

    A checkpoint that cannot be restored stays deferred, with a warning in the log. No error ends the script. When the
    script has removed all that was restored, nothing more is placed. As many bytes as the newest checkpoint has stay
    free on the disk for the next one. `located` returns the entry of a file with the key of its content now, which may
    change at any time.
    """

    def __init__(
        self,
        store: Store,
        directory: Path,
        restored: Restored,
        *,
        deferred: Deferred,
        located: Callable[[str], FileEntry | None],
        workers: Executor,
        stop: StopToken,
    ) -> None:
        super().__init__(name="holdfast-arrival", daemon=True)
        self._checkpoints = restored.later
        self._deferred = deferred
        self._located = located
        self._stopped = threading.Event()
        self._placing = threading.Lock()
        self._stop_token = StopToken(stop, when=self._stopped.is_set)
        newest_restored = newest(restored.checkpoints)
        reserve = newest_restored.size if newest_restored else 0
        self._staging = Staging(store, directory, workers, stop=self._stop_token, reserve=reserve)
        self._placement = Placement(directory, self._staging.root)
        self._directory = directory
        self._next = 0
        self._arrived = 0
        self._restored = [checkpoint.name for checkpoint in restored.checkpoints]
        self._restored += [name for note in restored.kept for name in note.checkpoints]

    def stop(self) -> None:
        """Place nothing more. An interrupted download stays in staging, for the next attempt."""
        with self._placing:
            self._stopped.set()

    def run(self) -> None:
        """Restore all deferred checkpoints."""
        try:
            while self.step():
                pass
            if self._checkpoints:
                _LOG.info(
                    "older checkpoints: %d of %d have arrived, %s bytes fetched",
                    self._arrived, len(self._checkpoints), f"{self._staging.bytes_fetched:,}",
                )  # fmt: skip
        except (HoldfastError, OSError) as error:
            level = logging.INFO if isinstance(error, StoppedError) else logging.WARNING
            _LOG.log(level, "no older checkpoint arrives from now on, they stay in the store: %s", error)
        except Exception as error:  # noqa: BLE001  the script continues after any error
            _LOG.error("no older checkpoint arrives from now on, this is a bug in holdfast: %r", error)

    def step(self) -> bool:
        """Restore the next checkpoint; return False when there is none.

        Raises:
            StoppedError: stopped, or the script has removed all that was restored.
            DiskFullError: the disk has no room.
            OSError: the script has removed the checkpoint directory, or it may not be written.
        """
        if self._next == len(self._checkpoints):
            return False
        checkpoint = self._checkpoints[self._next]
        self._next += 1
        if self._deferred.is_wanted(checkpoint.name):
            self._arrived += self._bring(checkpoint)
        if self._next == len(self._checkpoints):
            self._placement.end()
        return True

    def _bring(self, checkpoint: PlannedCheckpoint) -> bool:
        """Fetch and place a checkpoint; return whether it was placed."""
        while True:
            try:
                return self._put(checkpoint, self._fetch(checkpoint))
            except (DamagedError, NotFoundError) as error:
                _LOG.warning(
                    "older checkpoint %r does not arrive, and stays in the store as it is: %s", checkpoint.name, error
                )
                self._placement.discard(checkpoint)
                return False
            except DiskFullError:
                self._placement.discard(checkpoint)
                raise
            except TransientStoreError as error:
                _LOG.warning("older checkpoint %r is tried again in %g s: %s", checkpoint.name, PAUSE, error)
                self._stop_token.wait(PAUSE)
                self._stop_token.refuse_if_stopped(f"fetching {checkpoint.name}")

    def _fetch(self, checkpoint: PlannedCheckpoint) -> dict[str, int]:
        """Fetch a checkpoint from its present keys: an upkeep of the prefix may move its content meanwhile."""
        while True:
            files = self._as_located(checkpoint)
            try:
                return self._staging.fetch(files, self._staging.staged(files, checkpoint=checkpoint.name))
            except (DamagedError, NotFoundError):
                if files == self._as_located(checkpoint):
                    raise

    def _as_located(self, checkpoint: PlannedCheckpoint) -> dict[str, FileEntry]:
        found = dict(checkpoint.files)
        for path, file in checkpoint.files.items():
            entry = self._located(path)
            if entry is not None and entry.crc64nvme == file.crc64nvme:
                found[path] = replace(file, key=entry.key, etag=entry.etag)
        return found

    def _put(self, checkpoint: PlannedCheckpoint, sums: dict[str, int]) -> bool:
        files = checkpoint.files.items()
        foreign = {path: replace(file, crc64nvme=sums[path]) for path, file in files if file.crc64nvme == UNKNOWN}
        with self._placing:
            self._stop_token.refuse_if_stopped(f"restoring {checkpoint.name}")
            if not any(os.path.lexists(self._directory / name) for name in self._restored):
                raise StoppedError("the script has removed all that was restored")
            states = scan.scan(self._staging.root, only=checkpoint.name).files
            self._deferred.coming(checkpoint.name, states, foreign)
            if self._placement.arrive(checkpoint):
                self._deferred.placed(checkpoint.name)
                self._restored.append(checkpoint.name)
                return True
        self._placement.discard(checkpoint)
        return False
