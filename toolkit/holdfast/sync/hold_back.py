"""Which stored files must wait for others of their checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from holdfast.errors import (
    CutFileError,
    HoldfastError,
    StoreError,
)
from holdfast.local.groups import TOP_LEVEL, unit_of
from holdfast.local.scan import FileState, Scan
from holdfast.names import is_log
from holdfast.stop import StoppedError


class LeftBehindError(HoldfastError):
    """A file was stored, and is not committed, since another one that it may belong to was not."""


def refuse_cut_sets(
    directory: Path, scan: Scan, changed: Iterable[FileState], waiting: Collection[str], *, alone: bool, more: bool
) -> dict[str, HoldfastError]:
    """Return what changed and is provably not whole because files that belong to it are missing or too short.

    Args:
        directory: the checkpoint directory.
        scan: what is there.
        changed: what is not as the last snapshot has it.
        waiting: checkpoints that are not taken now, whatever they are.
        alone: no other host writes parts of the same checkpoints.
        more: files of the last snapshot are still to come.
    """
    from holdfast import probes  # noqa: PLC0415  as in storing.py

    news = {state.path for state in changed if state.checkpoint not in waiting}
    groups: dict[str, list[str]] = {}
    for path in scan.files if news else ():
        groups.setdefault(unit_of(path), []).append(path)
    found: dict[str, HoldfastError] = {}
    for unit in sorted({unit_of(path) for path in news}):
        with contextlib.suppress(OSError):  # what cannot be read is named when it is to be stored
            reasons = probes.probe_checkpoint(directory, groups[unit], alone=alone)
            if unit == "" and more:  # what it lacks may be what is still to come
                reasons = {path: reason for path, reason in reasons.items() if path in news}
            found |= {path: CutFileError(f"it is not whole: {reason}") for path, reason in reasons.items()}
    return found


def left_behind(
    states: Iterable[FileState], failed: Mapping[str, HoldfastError], overwritten: Collection[str]
) -> dict[str, HoldfastError]:
    """Return which files may not be committed because others did not make it, and why.

    Files at the top level that are overwritten side by side may belong to each other. What changes all the time, or is
    not whole, holds back nothing but itself: otherwise one file that never settles would hold back all others.

    Args:
        states: what was to be stored.
        failed: path → why it was not.
        overwritten: paths of which the last snapshot has an older version.
    """
    group = [
        state.path
        for state in states
        if unit_of(state.path) == TOP_LEVEL and state.path in overwritten and not is_log(state.path)
    ]
    late = [path for path in group if isinstance(failed.get(path), StoppedError | StoreError)]
    if not late:
        return {}
    reason = LeftBehindError(f"it may belong to {late[0]!r}, which was not stored: {failed[late[0]]}")
    return {path: reason for path in group if path not in failed}
