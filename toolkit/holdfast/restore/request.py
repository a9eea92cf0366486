"""What a restore is asked for, and its result."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from holdfast.errors import DamagedError
from holdfast.local.unsent import Unsent, UnsentNote
from holdfast.restore.base import Base
from holdfast.restore.plan import Mode, PlannedCheckpoint
from holdfast.snapshot.attempt import Attempt
from holdfast.snapshot.candidates import Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to restore.

    Attributes:
        attempt: the attempt that continues from the snapshot (default: none).
        mode: how much of the snapshot (default: everything).
        candidates: snapshots, of which the first that verifies is restored (default: all, newest first).
        adopt: whether files of other writers are adopted.
        checkpoint: name of the one checkpoint to restore (default: all).
        unsent: notes of an earlier attempt in the directory. Its unsent checkpoints are kept instead of what the newest
            snapshot has under their names (default: every conflicting file is moved aside).
    """

    attempt: Attempt | None = None
    mode: Mode = Mode.ALL
    candidates: Iterable[Candidate | DamagedError] | None = None
    adopt: bool = True
    checkpoint: str | None = None
    unsent: Unsent | None = None


EVERYTHING = Request()
"""The newest snapshot that verifies, for no attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The result of a restore.

    Attributes:
        snapshot: the restored snapshot; None when the prefix had none.
        base: what the next snapshot continues from; its files are the restored ones.
        foreign: paths that were adopted from other writers.
        checkpoints: checkpoints that were placed, newest first.
        later: checkpoints to restore while the script runs, newest first.
        kept: unsent checkpoints of an earlier attempt, left as they were.
    """

    snapshot: Candidate | None
    base: Base
    foreign: frozenset[str]
    bytes_fetched: int
    checkpoints: tuple[PlannedCheckpoint, ...]
    later: tuple[PlannedCheckpoint, ...]
    kept: tuple[UnsentNote, ...] = ()

    @property
    def files(self) -> frozenset[str]:
        """The paths of the placed files."""
        return frozenset(path for checkpoint in self.checkpoints for path in checkpoint.files)
