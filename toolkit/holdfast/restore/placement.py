"""Place staged files in the checkpoint directory."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from holdfast import names
from holdfast.local import scan
from holdfast.restore.plan import PlannedCheckpoint, PlannedFile


class Placement:
    """Moves files from staging into a checkpoint directory.

    Args:
        directory: the checkpoint directory.
        staged: folder of the staged files, each under its path.
    """

    def __init__(self, directory: Path, staged: Path) -> None:
        self._directory = directory
        self._own = directory / names.OWN_DIRECTORY
        self._staged = staged

    def place(
        self, checkpoints: Sequence[PlannedCheckpoint], deferred: Mapping[str, PlannedFile], kept: Collection[str] = ()
    ) -> tuple[str, ...]:
        """Place checkpoints before the script starts; return the paths of conflicting files, which were moved aside.

        Args:
            checkpoints: everything that the directory is to hold now.
            deferred: files that may be placed later. A file that looks like one of them goes to staging until then.
            kept: paths of files that stay as they are.
        """
        aside = self._own / "displaced" / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        stay = {path for checkpoint in checkpoints for path in checkpoint.files}.union(kept)
        displaced = self._clear(stay, deferred, aside)
        for checkpoint in checkpoints:
            staged = self._staged / checkpoint.name
            if staged.exists() and not os.path.lexists(self._directory / checkpoint.name):
                staged.rename(self._directory / checkpoint.name)
            else:
                displaced += self._merge(checkpoint, aside)
        if not deferred:
            self.end()
        self._remove_empty_directories()
        for checkpoint in checkpoints:
            self._keep_time(checkpoint, self._directory / checkpoint.name)
        return tuple(displaced)

    def arrive(self, checkpoint: PlannedCheckpoint) -> bool:
        """Place a staged checkpoint while the script runs; return False if there is one of its name.

        It becomes visible as a whole.

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
            target.mkdir()  # a rename replaces an empty directory, so it must be one that was made here
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
        """Remove staging, which is not needed any more."""
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

    def _clear(self, stay: Collection[str], deferred: Mapping[str, PlannedFile], aside: Path) -> list[str]:
        """Move away all files but `stay`: deferred ones to staging, others aside. Return the paths of the latter."""
        displaced = []
        for path, state in scan.scan(self._directory).files.items():
            if path in stay:
                continue
            file = deferred.get(path)
            is_link = (self._directory / path).is_symlink()
            if file is not None and (file.size, file.mtime_ns) == (state.size, state.mtime_ns) and not is_link:
                (self._staged / path).parent.mkdir(parents=True, exist_ok=True)
                (self._directory / path).rename(self._staged / path)
            else:
                _move(self._directory / path, aside / path)
                displaced.append(path)
        return displaced

    def _merge(self, checkpoint: PlannedCheckpoint, aside: Path) -> list[str]:
        """Rename staged files into a checkpoint that exists in part; return the paths of conflicting files."""
        displaced = []
        for path in checkpoint.files:
            staged, target = self._staged / path, self._directory / path
            if not staged.exists():
                continue  # it is in place already
            displaced += self._clear_way(path, aside)
            target.parent.mkdir(parents=True, exist_ok=True)
            staged.rename(target)
        return displaced

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

    def _clear_way(self, path: str, aside: Path) -> list[str]:
        """Move aside a link or file where a directory must be, and whatever is at the path itself."""
        moved = []
        for part in [*reversed([str(parent) for parent in PurePosixPath(path).parents][:-1]), path]:
            found = self._directory / part
            blocks = found.is_symlink() or (found.exists() and (part == path or not found.is_dir()))
            if blocks:
                _move(found, aside / part)
                moved.append(part)
        return moved


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    number = 0
    free = target
    while free.exists() or free.is_symlink():  # a directory whose files were moved before it was
        number += 1
        free = target.with_name(f"{target.name}~{number}")
    source.rename(free)
