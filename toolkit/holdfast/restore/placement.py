"""Place staged files in the checkpoint directory."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from holdfast import names
from holdfast.local import scan
from holdfast.restore.plan import PlannedCheckpoint, is_like
from holdfast.snapshot.record import FileEntry

_LOG = logging.getLogger(__name__)


class Placement:
    """Moves files from staging, where each has its path below `staged`, into a checkpoint directory."""

    def __init__(self, directory: Path, staged: Path) -> None:
        self._directory = directory
        self._own = directory / names.OWN_DIRECTORY
        self._staged = staged
        self._aside = self._own / "displaced" / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")

    def place(
        self, checkpoints: Sequence[PlannedCheckpoint], deferred: Mapping[str, FileEntry], kept: Collection[str]
    ) -> None:
        """Place checkpoints before the script starts. Conflicting files are moved aside, with a warning in the log.

        Args:
            checkpoints: all that the directory is to hold now.
            deferred: files that may be placed later. A file that looks like one of them goes to staging until then.
            kept: paths of files that stay as they are.
        """
        stay = {path for checkpoint in checkpoints for path in checkpoint.files}.union(kept)
        self._clear(stay, deferred)
        for checkpoint in checkpoints:
            staged = self._staged / checkpoint.name
            if staged.exists() and not os.path.lexists(self._directory / checkpoint.name):
                staged.rename(self._directory / checkpoint.name)
            else:
                self._merge(checkpoint)
        if not deferred:
            self.end()
        self._remove_empty_directories()
        for checkpoint in checkpoints:
            self._keep_time(checkpoint, self._directory / checkpoint.name)

    def arrive(self, checkpoint: PlannedCheckpoint) -> bool:
        """Place a staged checkpoint as a whole while the script runs; return False if there is one of its name.

        Raises:
            OSError: the script has removed the checkpoint directory, or it may not be written.
        """
        staged, target = self._staged / checkpoint.name, self._directory / checkpoint.name
        try:
            if checkpoint.is_file:
                target.hardlink_to(staged)  # a rename would replace an existing file
                staged.unlink()
                return True
            self._keep_time(checkpoint, staged)
            target.mkdir()  # a rename replaces an empty directory: never one that the script has made
            staged.rename(target)
        except FileExistsError:
            return False
        except OSError:
            with contextlib.suppress(OSError):
                target.rmdir()
            if os.path.lexists(target):  # the script has put a file into it at once
                return False
            raise
        return True

    def end(self) -> None:
        """Remove staging."""
        shutil.rmtree(self._staged, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._own.rmdir()  # only when it is empty

    def discard(self, checkpoint: PlannedCheckpoint) -> None:
        """Remove the staged files of a checkpoint."""
        staged = self._staged / checkpoint.name
        if checkpoint.is_file:
            staged.unlink(missing_ok=True)
        else:
            shutil.rmtree(staged, ignore_errors=True)

    def _clear(self, stay: Collection[str], deferred: Mapping[str, FileEntry]) -> None:
        """Move away all files but `stay`: deferred ones to staging, others aside."""
        for path, state in scan.scan(self._directory).files.items():
            if path in stay:
                continue
            if is_like(state, deferred.get(path)) and not (self._directory / path).is_symlink():
                _rename(self._directory / path, self._staged / path)
            else:
                self._move_aside(path)

    def _merge(self, checkpoint: PlannedCheckpoint) -> None:
        """Rename staged files into a checkpoint that exists in part."""
        for path in checkpoint.files:
            if (self._staged / path).exists():  # else the file is in place already
                self._clear_way(path)
                _rename(self._staged / path, self._directory / path)

    def _keep_time(self, checkpoint: PlannedCheckpoint, place: Path) -> None:
        """Set the time of a directory to that of its newest file: some scripts sort their checkpoints by it."""
        with contextlib.suppress(OSError):  # it belongs to another user
            if not checkpoint.is_file:
                os.utime(place, ns=(checkpoint.modified, checkpoint.modified))

    def _remove_empty_directories(self) -> None:
        """Remove directories without files: no snapshot has one, and a script would take it for a checkpoint."""
        for folder, _, _ in os.walk(self._directory, topdown=False):
            if Path(folder) != self._directory:
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()  # fails where a file is left, in `.holdfast/displaced` for one

    def _clear_way(self, path: str) -> None:
        """Move aside a link or file where a directory must be, and anything at the path itself."""
        for part in [*reversed([str(parent) for parent in PurePosixPath(path).parents][:-1]), path]:
            found = self._directory / part
            if found.is_symlink() or (found.exists() and (part == path or not found.is_dir())):
                self._move_aside(part)

    def _move_aside(self, path: str) -> None:
        target, numbers = self._aside / path, itertools.count(1)
        while os.path.lexists(target):  # a directory whose files were moved before it was
            target = self._aside / f"{path}~{next(numbers)}"
        _rename(self._directory / path, target)
        _LOG.warning("local file %r differs from the snapshot: moved to %s/displaced/", path, names.OWN_DIRECTORY)


def _rename(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
