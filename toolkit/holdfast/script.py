"""What a training script may ask holdfast: where checkpoints are, which one is newest, and whether it must stop.

Needs nothing but the standard library, reads nothing but the environment and the checkpoint directory, and gives sane
answers when no entrypoint is there: the directory of SageMaker's convention, never interrupted, for ever remaining.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from holdfast import names
from holdfast.disk import fsync


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


def rank(name: str, modified: int, likeness: int | None = None) -> tuple[int, int, list[tuple[int, int, str]]]:
    """Return the sort key by which the newest checkpoint is the last.

    Args:
        name: of the top-level entry.
        modified: nanoseconds since the epoch.
        likeness: how much it is what was asked for; None: how much its name is that of a checkpoint.
    """
    return names.likeness(name) if likeness is None else likeness, modified, names.natural_order(name)


def may_be_checkpoint(name: str) -> bool:
    """Say whether a top-level name is not hidden, not one that means "not finished", and nobody's bookkeeping."""
    hidden = name.startswith(".")
    return not (hidden or names.looks_unfinished(name) or names.is_bookkeeping(PurePosixPath(name)))


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


def interrupted() -> bool:
    """Say whether the script has been told to stop: save, and return. Cheap enough to ask at every step."""
    return bool(_notice().get("stop"))


def remaining() -> float:
    """Return the seconds that are left for the script to save and end; infinity when nobody has told it to stop."""
    stop_by = _notice().get("stop_by")
    return max(0.0, stop_by - time.time()) if isinstance(stop_by, int | float) else math.inf


def _notice() -> dict[str, Any]:
    path = os.environ.get("HOLDFAST_NOTICE_FILE")
    if not path:
        return {}
    try:
        notice = json.loads(Path(path).read_bytes())
    except (OSError, ValueError):  # no notice yet; the file is written atomically, so never half of one
        return {}
    return notice if isinstance(notice, dict) else {}


@contextlib.contextmanager
def save(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a checkpoint so that it exists whole or not at all.

    Yields a temporary path beside `path`; write a file, or make a directory, there. On success it is fsynced and
    renamed to `path`; on an exception it is removed and `path` stays as it was.

        with holdfast.save(holdfast.checkpoint_dir() / "epoch-3.pt") as temporary:
            torch.save(state, temporary)
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The suffix of the target stays at the end of the name: xgboost and Keras choose the format by it. The marker
    # `.sagemaker-ignore` keeps SageMaker's own uploader away as well as ours.
    temporary = target.with_name(f".{os.getpid()}.sagemaker-ignore.{target.name}")
    _remove(temporary)
    try:
        yield temporary
        _fsync_tree(temporary)
        _replace(temporary, target)
    except BaseException:
        _remove(temporary)
        raise
    fsync(target.parent)


def _replace(temporary: Path, target: Path) -> None:
    if not (temporary.is_dir() and target.is_dir()):
        temporary.replace(target)
        return
    # A directory cannot be renamed over one that has files: the old one steps aside first.
    aside = target.with_name(f".{os.getpid()}.sagemaker-ignore.old.{target.name}")
    _remove(aside)
    target.rename(aside)
    temporary.rename(target)
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _fsync_tree(path: Path) -> None:
    if path.is_dir():
        for folder, _, files in os.walk(path):
            for file in files:
                fsync(Path(folder) / file)
            fsync(Path(folder))
    else:
        fsync(path)
