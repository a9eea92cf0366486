"""The files below a directory that a process has open for writing."""

from __future__ import annotations

import os
from pathlib import Path

_WRITING = os.O_WRONLY | os.O_RDWR


def open_for_writing(pid: int, directory: Path) -> frozenset[str]:
    """Return the files below `directory` that a process has open for writing, as relative paths.

    From /proc/PID/fd and fdinfo (proc(5)). The set is empty for a process that has ended or may not be read.
    """
    root = os.path.realpath(directory) + os.sep
    found = set()
    try:
        descriptors = [entry.name for entry in os.scandir(f"/proc/{pid}/fd")]
    except OSError:
        return frozenset()
    for descriptor in descriptors:
        try:
            target = os.fspath(Path(f"/proc/{pid}/fd/{descriptor}").readlink())
            if target.startswith(root) and _flags(pid, descriptor) & _WRITING:
                found.add(target.removeprefix(root))
        except (OSError, ValueError):  # closed meanwhile
            continue
    return frozenset(found)


def _flags(pid: int, descriptor: str) -> int:
    for line in Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "flags":
            return int(value, 8)
    return 0
