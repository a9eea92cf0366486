"""Classify names: checkpoints, logs, bookkeeping, and paths that a restore must refuse."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

OWN_DIRECTORY = ".holdfast"

# Names that trainers give to what they have not finished writing: Hugging Face, Orbax, Lightning, editors, downloads.
_UNFINISHED = re.compile(
    r"(?:^tmp[-_.])|(?:[.\-_](?:tmp|partial|incomplete)(?:[-_.]|$))|(?:\.(?:part|temp)$)|(?:~$)", re.IGNORECASE
)
# Names that are those of checkpoints, by the suffixes and words that the frameworks use …
_CHECKPOINT = re.compile(
    r"\.(?:bin|ckpt|h5|hdf5|index|joblib|keras|model|msgpack|np[yz]|params|pickle|pkl|pth?|safetensors|states|tar|ubj|zip)$"
    r"|checkpoint|ckpt|epoch|iter|round|step|weights|model",
    re.IGNORECASE,
)
# … and those of what lies beside them.
_BESIDE = re.compile(
    r"\.(?:csv|err|html|jsonl|log|md|out|png|svg|tsv|ya?ml)$|^events\.out\.tfevents|metrics"
    r"|^(?:lightning_logs|logs?|mlruns|profile|runs|tb|tensorboard|wandb)$",
    re.IGNORECASE,
)
_LOG_NAME = re.compile(r"\.(?:csv|err|jsonl|log|out|tsv)$|^events\.out\.tfevents", re.IGNORECASE)
_DIGITS = re.compile(r"([0-9]+)")

MAX_KEY_BYTES = 1024
"""Longest key of S3, in UTF-8 bytes (docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html)."""


def is_bookkeeping(path: PurePosixPath) -> bool:
    """Return whether a relative path is holdfast's or SageMaker's own and must neither be uploaded nor restored.

    SageMaker writes `<file>.sagemaker-uploading` and `<file>.sagemaker-uploaded` beside what it copies, and skips
    every name that contains `.sagemaker-ignore` (aws/sagemaker-xgboost-container, checkpointing.py).
    """
    return any(is_bookkeeping_segment(part, first=number == 0) for number, part in enumerate(path.parts))


def is_bookkeeping_segment(segment: str, *, first: bool) -> bool:
    """Return whether a path segment makes the path bookkeeping; `first`: it is the first segment of the path."""
    return (
        (first and segment == OWN_DIRECTORY)
        or segment.endswith((".sagemaker-uploading", ".sagemaker-uploaded"))
        or ".sagemaker-ignore" in segment
    )


def looks_unfinished(name: str) -> bool:
    """Return whether trainers use this name for a checkpoint that is not complete yet."""
    return bool(_UNFINISHED.search(name))


def checkpoint_of(path: str) -> str:
    """Return the name of the checkpoint that a relative path belongs to: its first segment."""
    return path.partition("/")[0]


def is_log(path: str) -> bool:
    """Return whether the last name of a path is that of a log: appended all the time, and useful in part too."""
    return bool(_LOG_NAME.search(path.rpartition("/")[2]))


def likeness(name: str) -> int:
    """Return how likely a name is that of a checkpoint: 2 likely, 1 unknown, 0 a log or similar."""
    if _BESIDE.search(name):
        return 0
    return 2 if _CHECKPOINT.search(name) else 1


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key by which `epoch-10` comes after `epoch-9`."""
    return [(1, int(part), "") if part.isascii() and part.isdigit() else (0, 0, part) for part in _DIGITS.split(name)]


def unsafe_reason(path: str) -> str | None:  # noqa: PLR0911  one reason, one line
    """Return why a path from a store must not be written below the checkpoint directory; None when it may be.

    A bucket can hold any key, and none may lead a restore out of its directory.
    """
    if not path:
        return "it is empty"
    if "\0" in path:
        return "it holds a NUL byte"
    if path.startswith("/"):
        return "it is absolute"
    segments = path.split("/")
    if any(segment in ("", ".", "..") for segment in segments):
        return "it holds an empty segment, '.' or '..'"
    try:
        encoded = [segment.encode() for segment in segments]
    except UnicodeEncodeError:
        return "it is no valid Unicode"
    if len(path.encode()) > MAX_KEY_BYTES:
        return f"it is longer than the {MAX_KEY_BYTES:,} bytes of a key"
    if any(len(segment) > 255 for segment in encoded):
        return "a part of it is longer than the 255 bytes of a file name"
    return None


def rank(name: str, modified: int, asked: int | None = None) -> tuple[int, int, list[tuple[int, int, str]]]:
    """Return the sort key that puts the newest checkpoint last.

    Args:
        name: of the top-level entry.
        modified: nanoseconds since the epoch.
        asked: how well the name fits a pattern that the caller gave; None: its `likeness`.
    """
    return likeness(name) if asked is None else asked, modified, natural_order(name)


def may_be_checkpoint(name: str) -> bool:
    """Return whether a top-level name may be a checkpoint: not hidden, not unfinished, no bookkeeping."""
    hidden = name.startswith(".")
    return not (hidden or looks_unfinished(name) or is_bookkeeping(PurePosixPath(name)))
