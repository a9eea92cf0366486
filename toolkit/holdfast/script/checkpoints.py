"""checkpoint_dir, latest: the checkpoint directory, and the newest checkpoint in it.

They read the environment and the checkpoint directory. Without an entrypoint the directory is SageMaker's.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
from pathlib import Path, PurePosixPath

from holdfast import names
from holdfast.names import may_be_checkpoint, rank


def checkpoint_dir() -> Path:
    """Create the directory for checkpoints and return it.

    It is `SM_CHECKPOINT_DIR`, `CHECKPOINT_LOCAL_PATH`, or SageMaker's /opt/ml/checkpoints. Without an entrypoint and
    without /opt/ml it is `checkpoints` in the working directory.
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

    A checkpoint is a top-level file or directory. Unfinished ones (`*.tmp`, `tmp-*`, `*.partial`, SageMaker's markers),
    hidden ones and empty ones are ignored. Without a pattern, names that look like checkpoints come first, and logs and
    metrics are ignored too. The newest has the latest modification time (of a directory: of the newest file in it); of
    equal times, the highest number in the name: `epoch-10` is newer than `epoch-9`. A restore keeps modification times.

    Args:
        pattern: shell pattern for the name, such as `*.pt` or `checkpoint-*` (default: names like a checkpoint's).
        directory: checkpoint directory (default `checkpoint_dir()`).
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
    """Return the newest modification time in nanoseconds, or None where nothing has content."""
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
    except FileNotFoundError:  # deleted meanwhile, by the script's own retention in another rank
        return None
    return max(inside, default=None)
