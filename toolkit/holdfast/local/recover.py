"""Find what an earlier attempt on this disk has finished and not stored, and whether it still counts."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from holdfast.local import scan as disk
from holdfast.local.groups import unit_of
from holdfast.local.unsent import Life, Unsent, UnsentNote, boot_id
from holdfast.snapshot.record import Snapshot
from holdfast.wording import first_few, listed

_LOG = logging.getLogger(__name__)
_CONTENT_BUDGET = 16 << 20
_LOST = "the machine restarted before it was known to be on the disk"


def recover(unsent: Unsent, newest: Snapshot | None, attempts: Collection[int]) -> list[UnsentNote]:
    """Return what is gone on with, and say what is not though it is still there.

    Args:
        unsent: the notes of the checkpoint directory.
        newest: the newest record of the only host; None: there is none.
        attempts: the numbers that were claimed.
    """
    if (found := unsent.read()) is None:
        return []
    life, noted = found
    scan, recorded = disk.scan(unsent.directory), newest.files if newest else {}
    files = scan.by_checkpoint()
    # What a later record of the same attempt has is restored as everything else, by its content.
    later = recorded.values() if newest and newest.name != life.after else ()
    stored = {(entry.path, entry.size, entry.mtime_ns) for entry in later}
    expired, rebooted = _expired(life, unsent.store, newest, attempts), not life.boot or life.boot != boot_id()
    reasons: dict[UnsentNote, str] = {}
    for note in noted:
        untouched = {state for name in note.checkpoints for state in files.get(name, ())} == set(note.states)
        if untouched and not all((it.path, it.size, it.mtime_ns) in stored for it in note.states):
            reasons[note] = expired or (_LOST if rebooted and not note.durable else "")
    beside = [path for path in recorded if path in scan.files and "/" not in path]
    while kept := [note for note, reason in reasons.items() if not reason]:
        unfit = dict(_linked(unsent.directory, kept)) or dict(_cut(unsent.directory, kept, beside))
        if not unfit:
            break
        reasons |= unfit  # and what is kept may lack it now
    refused: dict[str, list[str]] = {}
    for note, reason in reasons.items():
        refused.setdefault(reason, []).extend(sorted(note.checkpoints))
    if kept:
        checkpoints = listed(sorted(refused.pop("")))
        _LOG.info(
            "attempt %s had finished but not stored %s: kept in the directory, uploaded now", life.attempt, checkpoints
        )
    sentences = [
        f"attempt {life.attempt} had finished but not stored {listed(names)}: not used, {reason}"
        for reason, names in refused.items()
    ]
    for sentence in first_few(sentences):
        _LOG.warning("%s", sentence)
    unsent.noted = tuple(kept)
    return kept


def _expired(life: Life, store: str, newest: Snapshot | None, attempts: Collection[int]) -> str:
    """Say why what was noted does not count any more; empty: it does."""
    if life.store != store:
        return f"it belongs to {life.store}"
    own = newest is not None and (newest.attempt, newest.token) == (life.attempt, life.token)
    last = own or life.after == (newest.name if newest else "")
    return "" if last and life.attempt in attempts else "another attempt has committed since"


def _linked(directory: Path, kept: Sequence[UnsentNote]) -> Iterator[tuple[UnsentNote, str]]:
    """Yield what has links out of all that is kept: a restore may replace what they lead to."""
    root = directory.resolve()
    inside = {root / state.path for note in kept for state in note.states}
    for note in kept:
        for state in note.states:
            if (directory / state.path).resolve() not in inside:
                yield note, f"{state.path} is a link to a file that is not kept"


def _cut(directory: Path, kept: Sequence[UnsentNote], beside: Iterable[str]) -> Iterator[tuple[UnsentNote, str]]:
    """Yield what is provably not whole: it may have been noted before it was probed."""
    from holdfast import probes  # noqa: PLC0415  as in file_upload.py

    reasons: dict[str, str] = {}
    sets: dict[str, list[str]] = {}
    for path in (*beside, *(state.path for note in kept for state in note.states)):
        sets.setdefault(unit_of(path), []).append(path)
    for paths in sets.values():
        try:
            reasons |= probes.probe_checkpoint(directory, paths)
        except OSError as error:
            reasons |= dict.fromkeys(paths, str(error))
    for path in {path for note in kept for path in note.changed} - reasons.keys():
        try:
            finding = probes.probe(directory / path, content_budget=_CONTENT_BUDGET)
        except OSError as error:
            reasons[path] = str(error)
        else:
            if finding.verdict is probes.Verdict.CUT:
                reasons[path] = finding.reason
    for note in kept:
        for path in sorted({state.path for state in note.states} & reasons.keys()):
            yield note, f"{path} is not whole: {reasons[path]}"
