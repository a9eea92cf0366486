"""The guard of the checkpoints of one life: watches them while the script runs, and flushes them after it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from holdfast.errors import CutFileError, SupersededError
from holdfast.settling import Killed
from holdfast.watch import Watcher
from holdfast_entrypoint.preparation import Prepared

_USUAL_RATE = 50e6  # bytes per second, until an upload has been measured


class Guard:
    """Keeps the prefix up to date with the checkpoint directory. Belongs to the main thread.

    Args:
        prepared: what the restore left.
        directory: the checkpoint directory.
        tell: gets a sentence about what the operator should know.
        wake: called from another thread when there is something to look at here.
    """

    def __init__(
        self, prepared: Prepared, directory: Path, *, tell: Callable[[str], None], wake: Callable[[], None]
    ) -> None:
        self.superseded: SupersededError | None = None
        """How it is known that another attempt has taken over; None while it is not."""
        self._syncer = prepared.syncer
        self._arrival = prepared.arrival
        self._directory = directory
        self._tell = tell
        self._wake = wake
        self._watcher = self._start(None)
        self._arrival.start()  # behind the watch, so that it hears of what the script does with what comes

    def _start(self, before: Watcher | None) -> Watcher:
        watcher = Watcher(
            self._syncer,
            self._directory,
            tell=self._tell,
            on_end=lambda: self._ended(watcher),
            settling=before.settling if before else None,
        )
        watcher.start()
        watcher.watching.wait()
        return watcher

    def _ended(self, watcher: Watcher) -> None:
        if isinstance(watcher.error, SupersededError):
            self.superseded = watcher.error
        self._wake()

    @property
    def uploaded(self) -> int:
        """Bytes of content that travelled in this attempt."""
        return self._syncer.uploaded

    @property
    def snapshots(self) -> int:
        """Snapshots committed in this attempt."""
        return self._syncer.snapshots

    def flush_soon(self) -> None:
        """Store what is settled at the next opportunity."""
        self._watcher.flush_soon()

    def flush_seconds(self) -> float:
        """Guess how long the flush will take: the newest checkpoint once more, at the rate measured last."""
        return self._syncer.newest_checkpoint_size() / (self._watcher.rate or _USUAL_RATE)

    def flush(
        self,
        seconds_left: Callable[[], float],
        *,
        killed: Killed | None,
        meanwhile: Callable[[], None],
    ) -> bool:
        """Store what is not stored yet; return whether everything is durable.

        Args:
            seconds_left: until the container is killed; infinity when nobody presses, and that may change on the way.
            killed: how a signal ended the script; None when it ended by itself.
            meanwhile: called again and again until that is done; takes a moment each time.
        """
        self._arrival.stop()
        if self.superseded is not None:
            return False
        if self._watcher.error is not None:
            self._watcher = self._start(self._watcher)  # what ended the old thread may have been of the moment
        self._watcher.finish(seconds_left, killed=killed)
        while self._watcher.is_alive() and seconds_left() > 0:
            meanwhile()
        return self._is_durable()

    def _is_durable(self) -> bool:
        watcher = self._watcher
        if watcher.error is not None:
            if self.superseded is None:
                self._tell(f"the last flush failed: {watcher.error}")
            return False
        if watcher.last is None:
            self._tell("the time ran out before the last flush was committed")
            return False
        for path, reason in watcher.last.unfinished.items():
            # What is provably not whole is no checkpoint yet: nobody finished it.
            if isinstance(reason, CutFileError):
                self._tell(f"{path!r} is not in the snapshot: {reason}")
            else:
                self._tell(f"{path!r} did not make it: {reason}")
        return all(isinstance(reason, CutFileError) for reason in watcher.last.unfinished.values())

    def refuse_if_superseded(self) -> None:
        """Look whether another attempt has taken over, where no commit has shown it.

        Raises:
            SupersededError: it has.
            StoreError: the store cannot be read.
        """
        try:
            self._syncer.refuse_if_superseded()
        except SupersededError as error:
            self.superseded = error
            raise
