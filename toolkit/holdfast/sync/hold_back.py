"""Hold back files that must not be committed without others of their checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from holdfast.errors import CutFileError, HoldfastError, StoreError
from holdfast.local.groups import TOP_LEVEL, group_of
from holdfast.local.scan import FileState, Scan
from holdfast.names import is_log
from holdfast.stop import StoppedError


class LeftBehindError(HoldfastError):
    """A stored file is not committed, because another file that it may belong to was not stored."""


def refuse_cut_sets(
    directory: Path, scan: Scan, changed: Iterable[FileState], waiting: Collection[str], *, alone: bool, more: bool
) -> dict[str, HoldfastError]:
    """Return changed files that provably belong to an incomplete set: files of it are missing or too short.

    `alone`: no other host writes parts of the same checkpoints. `more`: files of the last snapshot are still deferred.
    """
    from holdfast import probes  # noqa: PLC0415  as in file_upload.py

    fresh = {state.path for state in changed if state.checkpoint not in waiting}
    groups: dict[str, list[str]] = {}
    for path in scan.files if fresh else ():
        groups.setdefault(group_of(path), []).append(path)
    found: dict[str, HoldfastError] = {}
    for name in sorted({group_of(path) for path in fresh}):
        with contextlib.suppress(OSError):  # an unreadable file is reported when it is stored
            reasons = probes.probe_checkpoint(directory, groups[name], alone=alone)
            if name == TOP_LEVEL and more:  # the missing files may be deferred
                reasons = {path: reason for path, reason in reasons.items() if path in fresh}
            found |= {path: CutFileError(f"it is not whole: {reason}") for path, reason in reasons.items()}
    return found


def left_behind(
    states: Iterable[FileState], failed: Mapping[str, HoldfastError], overwritten: Collection[str]
) -> dict[str, HoldfastError]:
    """Return which files may not be committed because others were not stored, and why.

    Files at the top level that are overwritten together may belong together. A file that changes all the time or is
    cut holds back nothing but itself: otherwise one file that never settles would hold back all others.
    """
    paths = [state.path for state in states if state.path in overwritten and not is_log(state.path)]
    group = [path for path in paths if group_of(path) == TOP_LEVEL]
    late = next((path for path in group if isinstance(failed.get(path), StoppedError | StoreError)), None)
    if late is None:
        return {}
    reason = LeftBehindError(f"it may belong to {late!r}, which was not stored: {failed[late]}")
    return {path: reason for path in group if path not in failed}
