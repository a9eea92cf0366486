"""save: write a checkpoint whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from holdfast.fsync import fsync


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
    # The name ends with the target's suffix: xgboost and Keras choose the format by it. `.sagemaker-ignore` keeps
    # SageMaker's uploader away, and ours.
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
    # A directory cannot be renamed over one that has files: the old one is renamed first.
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
