"""Placing: what has been staged becomes what the checkpoint directory holds."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from holdfast import names
from holdfast.local import scan
from holdfast.restore.plan import PlannedCheckpoint, PlannedFile


class Placement:
    """Moves files from staging into a checkpoint directory.

    Args:
        directory: the checkpoint directory.
        staged: where files were staged, each under its path.
    """

    def __init__(self, directory: Path, staged: Path) -> None:
        self._directory = directory
        self._own = directory / names.OWN_DIRECTORY
        self._staged = staged

    def place(
        self, units: Iterable[PlannedCheckpoint], later: Mapping[str, PlannedFile], stay: Collection[str] = ()
    ) -> tuple[str, ...]:
        """Put whole checkpoints in place before the script starts; return what was in the way and moved aside.

        Args:
            units: all that the directory is to hold now.
            later: files that may arrive afterwards: what looks like one of them goes to staging until then.
            stay: paths of files that are not in the way.
        """
        units = list(units)
        aside = self._own / "displaced" / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        displaced = self._clear({path for unit in units for path in unit.files}.union(stay), later, aside)
        for unit in units:
            staged = self._staged / unit.name
            if staged.exists() and not os.path.lexists(self._directory / unit.name):
                staged.rename(self._directory / unit.name)
            else:
                displaced += self._merge(unit, aside)
        if not later:
            self.end()
        self._remove_empty_directories()
        for unit in units:
            self._keep_time(unit, self._directory / unit.name)
        return tuple(displaced)

    def arrive(self, unit: PlannedCheckpoint) -> bool:
        """Put a staged checkpoint in place while the script runs; return False where there is one of its name.

        Whoever looks sees nothing of it or all of it.

        Raises:
            OSError: the script has removed the checkpoint directory, or it may not be written.
        """
        staged, target = self._staged / unit.name, self._directory / unit.name
        try:
            if unit.is_file:
                target.hardlink_to(staged)  # a rename would replace what is there
                staged.unlink()
                return True
            self._keep_time(unit, staged)
            target.mkdir()  # a rename replaces an empty directory: that it is ours makes sure that nobody else's is
            staged.rename(target)
        except FileExistsError:
            return False
        except OSError:
            with contextlib.suppress(OSError):
                target.rmdir()
            if os.path.lexists(target):  # somebody has put something into it at once
                return False
            raise
        return True

    def end(self) -> None:
        """Remove staging: nothing of it is needed any more."""
        shutil.rmtree(self._staged, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._own.rmdir()  # only when it is empty

    def discard(self, unit: PlannedCheckpoint) -> None:
        """Remove what is staged of a checkpoint."""
        staged = self._staged / unit.name
        if unit.is_file:
            staged.unlink(missing_ok=True)
        else:
            shutil.rmtree(staged, ignore_errors=True)

    def _clear(self, kept: Collection[str], later: Mapping[str, PlannedFile], aside: Path) -> list[str]:
        """Move what is not to be there: to staging what may come back, aside what may not; return the latter."""
        displaced = []
        for path, state in scan.scan(self._directory).files.items():
            if path in kept:
                continue
            file = later.get(path)
            is_link = (self._directory / path).is_symlink()
            if file is not None and (file.size, file.mtime_ns) == (state.size, state.mtime_ns) and not is_link:
                (self._staged / path).parent.mkdir(parents=True, exist_ok=True)
                (self._directory / path).rename(self._staged / path)
            else:
                _move(self._directory / path, aside / path)
                displaced.append(path)
        return displaced

    def _merge(self, unit: PlannedCheckpoint, aside: Path) -> list[str]:
        """Rename the staged files of a checkpoint into one of which something is there; return what was in the way."""
        displaced = []
        for path in unit.files:
            staged, target = self._staged / path, self._directory / path
            if not staged.exists():
                continue  # it was here already
            displaced += self._clear_way(path, aside)
            target.parent.mkdir(parents=True, exist_ok=True)
            staged.rename(target)
        return displaced

    def _keep_time(self, unit: PlannedCheckpoint, place: Path) -> None:
        """Give a directory the time of its newest file: there are scripts that sort their checkpoints by that."""
        with contextlib.suppress(OSError):  # it is another user's
            if not unit.is_file:
                os.utime(place, ns=(unit.modified, unit.modified))

    def _remove_empty_directories(self) -> None:
        """Remove directories without a file: no snapshot has any, and a script would take one for a checkpoint."""
        for folder, _, _ in os.walk(self._directory, topdown=False):
            if Path(folder) != self._directory:
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()  # refuses where anything is left, in `.holdfast/displaced` for one

    def _clear_way(self, path: str, aside: Path) -> list[str]:
        """Move aside a link or file where a directory must be, and anything that stands at the path itself."""
        moved = []
        for part in [*reversed([str(parent) for parent in PurePosixPath(path).parents][:-1]), path]:
            there = self._directory / part
            blocks = there.is_symlink() or (there.exists() and (part == path or not there.is_dir()))
            if blocks:
                _move(there, aside / part)
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
