"""What a training script may ask holdfast: where checkpoints are, which one is newest, and whether it must stop.

Needs nothing but the standard library, reads nothing but the environment and the checkpoint directory, and gives sane
answers when no entrypoint is there: the directory of SageMaker's convention, never interrupted, for ever remaining.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
from pathlib import Path, PurePosixPath

from holdfast import names
from holdfast.names import may_be_checkpoint, rank


def checkpoint_dir() -> Path:
    """Return the directory for checkpoints, and make it.

    It is `SM_CHECKPOINT_DIR`, `CHECKPOINT_LOCAL_PATH`, or SageMaker's /opt/ml/checkpoints; outside a container, with no
    entrypoint and no /opt/ml, it is `checkpoints` in the working directory.
    """
    named = os.environ.get("SM_CHECKPOINT_DIR") or os.environ.get("CHECKPOINT_LOCAL_PATH")
    base = Path(os.environ.get("SAGEMAKER_BASE_DIR") or "/opt/ml")
    if named:
        directory = Path(named)
    elif os.access(base, os.W_OK):
        directory = base / "checkpoints"
    else:
        directory = Path.cwd() / "checkpoints"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def latest(pattern: str | None = None, *, directory: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the newest complete checkpoint, or None on a fresh start.

    A checkpoint is a top-level file or directory. Names that mean "not finished" (`*.tmp`, `tmp-*`, `*.partial`,
    SageMaker's markers), hidden names, and empty files or directories are passed over. Without a pattern, names that
    look like checkpoints come first, and logs and metrics are never taken. Newest is by modification time (of a
    directory: of the newest file in it), then by the numbers in the name, so `epoch-10` beats `epoch-9`; a restore
    keeps the times of the original files.

    Args:
        pattern: a shell pattern for the name, such as `*.pt` or `checkpoint-*`; None: whatever looks like one.
        directory: where to look; default `checkpoint_dir()`.
    """
    root = Path(directory) if directory is not None else checkpoint_dir()
    found = []
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(root):
            likeness = names.likeness(entry.name) if pattern is None else int(fnmatch.fnmatchcase(entry.name, pattern))
            if likeness and may_be_checkpoint(entry.name):
                modified = _newest_content(Path(entry.path))
                if modified is not None:
                    found.append((rank(entry.name, modified, likeness), Path(entry.path)))
    return max(found)[1] if found else None


def _newest_content(path: Path) -> int | None:
    """Return the newest modification time in nanoseconds, or None when there is nothing in it."""
    try:
        if not path.is_dir():
            status = path.stat()
            return status.st_mtime_ns if status.st_size else None
        inside = [
            (Path(folder) / file).stat().st_mtime_ns
            for folder, _, files in os.walk(path)
            for file in files
            if not names.is_bookkeeping(PurePosixPath(file))
        ]
    except FileNotFoundError:  # deleted while we looked: the script's own retention, in another rank
        return None
    return max(inside, default=None)
