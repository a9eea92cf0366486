"""Which names are checkpoints, which are somebody's bookkeeping, and which a restore must not follow."""

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
    """Say whether a relative path is holdfast's or SageMaker's own and must neither be uploaded nor restored.

    SageMaker writes `<file>.sagemaker-uploading` and `<file>.sagemaker-uploaded` beside what it copies, and skips
    every name that
    contains `.sagemaker-ignore` (aws/sagemaker-xgboost-container, checkpointing.py).
    """
    return any(is_bookkeeping_segment(part, first=number == 0) for number, part in enumerate(path.parts))


def is_bookkeeping_segment(segment: str, *, first: bool) -> bool:
    """Say whether a name makes what it names, and all below it, bookkeeping; `first`: it is a path's first segment."""
    return (
        (first and segment == OWN_DIRECTORY)
        or segment.endswith((".sagemaker-uploading", ".sagemaker-uploaded"))
        or ".sagemaker-ignore" in segment
    )


def looks_unfinished(name: str) -> bool:
    """Say whether a file or directory name is one that trainers use before a checkpoint is complete."""
    return bool(_UNFINISHED.search(name))


def checkpoint_of(path: str) -> str:
    """Return the name of the checkpoint that a relative path belongs to: its first segment."""
    return path.partition("/")[0]


def is_log(path: str) -> bool:
    """Say whether a path is that of a log, by its last name: written all the time, and half of one harms nobody."""
    return bool(_LOG_NAME.search(path.rpartition("/")[2]))


def likeness(name: str) -> int:
    """Return how much a name looks like that of a checkpoint: 2 it does, 1 who knows, 0 it is a log or the like."""
    if _BESIDE.search(name):
        return 0
    return 2 if _CHECKPOINT.search(name) else 1


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key by which `epoch-10` comes after `epoch-9`."""
    return [
        (1, int(piece), "") if piece.isascii() and piece.isdigit() else (0, 0, piece) for piece in _DIGITS.split(name)
    ]


def unsafe_reason(path: str) -> str | None:  # noqa: PLR0911  one reason, one line
    """Say why a path from a store must not be written below the checkpoint directory; None when it may be.

    A bucket can hold any key; nothing in it may lead a restore out of its directory.
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
    """Return the sort key by which the newest checkpoint is the last.

    Args:
        name: of the top-level entry.
        modified: nanoseconds since the epoch.
        asked: how much it is what was asked for; None: how much its name is that of a checkpoint.
    """
    return likeness(name) if asked is None else asked, modified, natural_order(name)


def may_be_checkpoint(name: str) -> bool:
    """Say whether a top-level name is not hidden, not one that means "not finished", and nobody's bookkeeping."""
    hidden = name.startswith(".")
    return not (hidden or looks_unfinished(name) or is_bookkeeping(PurePosixPath(name)))
