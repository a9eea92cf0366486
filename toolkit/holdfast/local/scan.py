"""Scan the checkpoint directory: which files it has, and the state of each."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from holdfast import names


@dataclass(frozen=True, slots=True)
class FileState:
    """The state of one file, as in `FileEntry`. Two equal states mean that the file was not touched between them.

    Attributes:
        ctime_ns: change time; shows a write after which the modification time was set back.
        inode: shows a rename over the file.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    mode: int

    @property
    def checkpoint(self) -> str:
        """The checkpoint that the file belongs to."""
        return names.checkpoint_of(self.path)


@dataclass(frozen=True, slots=True)
class Scan:
    """The checkpoint directory at one moment.

    Attributes:
        left_out: path → why it cannot be part of a snapshot.
        unreadable: directories that may not be read. What lies in them is unknown, not deleted.
    """

    files: dict[str, FileState]
    left_out: dict[str, str]
    unreadable: frozenset[str] = frozenset()

    def by_checkpoint(self) -> dict[str, list[FileState]]:
        """Return the files of each checkpoint."""
        groups: dict[str, list[FileState]] = {}
        for state in self.files.values():
            groups.setdefault(state.checkpoint, []).append(state)
        return groups


def scan(directory: Path, *, room_for_prefix: int = 0, only: str | None = None) -> Scan:
    """Return the files below `directory`. None is read; a missing directory is empty.

    A file that disappears meanwhile is left out. Links to files inside the directory count as files; everything else
    that is not a regular file is left out with a reason.

    Args:
        room_for_prefix: bytes of the store's prefix, of the 1,024 that a key may have.
        only: the one checkpoint to scan (default: all).

    Raises:
        OSError: the directory may not be read.
    """
    files: dict[str, FileState] = {}
    left_out: dict[str, str] = {}
    unreadable: set[str] = set()
    root, where = directory.resolve(), os.fspath(directory)
    for path, entry in _walk(where, "", only, unreadable):
        if reason := _unfit_reason(path, entry, root, room_for_prefix):
            left_out[path] = reason
        elif state := look(where, path):
            files[path] = state
    left_out |= dict.fromkeys(unreadable, "it is a directory that may not be read")
    return Scan(files, left_out, frozenset(unreadable))


def look(directory: Path | str, path: str) -> FileState | None:
    """Return the state of one file; None where there is no regular file."""
    try:
        status = os.stat(f"{directory}/{path}")  # noqa: PTH116  a Path for each of 10,000 files costs more than the stat itself
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise
    if not stat.S_ISREG(status.st_mode):
        return None
    return FileState(
        path=path,
        size=status.st_size,
        mtime_ns=max(0, status.st_mtime_ns),
        ctime_ns=status.st_ctime_ns,
        inode=status.st_ino,
        mode=stat.S_IMODE(status.st_mode) & 0o777,
    )


def _walk(directory: str, below: str, only: str | None, unreadable: set[str]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    try:
        entries = sorted(os.scandir(f"{directory}/{below}" if below else directory), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    except PermissionError:
        if not below:
            raise
        unreadable.add(below)
        return
    for entry in entries:
        path = f"{below}/{entry.name}" if below else entry.name
        if names.is_bookkeeping_segment(entry.name, first=not below) or (only is not None and entry.name != only):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(directory, path, None, unreadable)
        else:
            yield path, entry


def _unfit_reason(  # noqa: PLR0911  one reason, one line
    path: str, entry: os.DirEntry[str], root: Path, room_for_prefix: int
) -> str | None:
    """Return why an entry is not a file of a snapshot; None: it is one."""
    try:
        key_bytes = len(path.encode())
    except UnicodeEncodeError:
        return "its name is no valid UTF-8"
    if key_bytes + room_for_prefix > names.MAX_KEY_BYTES:
        return f"its key would be longer than {names.MAX_KEY_BYTES} bytes"
    if entry.is_symlink():
        try:
            target = Path(entry.path).resolve()
        except FileNotFoundError:
            return None  # it disappeared while it was resolved: `look` finds nothing
        if not target.exists():
            return "it is a broken link"
        if not target.is_relative_to(root):
            return "it is a link that leaves the checkpoint directory"
        if target.is_dir():
            return "it is a link to a directory"
    return None if entry.is_file() else "it is no regular file"
