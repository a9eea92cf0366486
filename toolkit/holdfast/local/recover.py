"""Find the checkpoints that an earlier attempt on this disk has finished and not stored, if they are still valid."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from holdfast.local import scan as disk
from holdfast.local.groups import group_of
from holdfast.local.unsent import Header, Unsent, UnsentNote, boot_id
from holdfast.snapshot.record import Snapshot
from holdfast.wording import first_few, listed

_LOG = logging.getLogger(__name__)
_CONTENT_BUDGET = 16 << 20
_LOST = "the machine restarted before it was known to be on the disk"


def recover(unsent: Unsent, newest: Snapshot | None, attempts: Collection[int]) -> list[UnsentNote]:
    """Return the notes that are still valid; log those that are not although their files are there.

    `newest` is the newest record of the only host; `attempts` are the numbers of all claimed attempts.
    """
    if (found := unsent.read()) is None:
        return []
    header, noted = found
    scan, recorded = disk.scan(unsent.directory), newest.files if newest else {}
    files = scan.by_checkpoint()
    # The files of a later record of the same attempt are restored like all others, by their content.
    later = recorded.values() if newest and newest.name != header.after else ()
    stored = {(entry.path, entry.size, entry.mtime_ns) for entry in later}
    expired, rebooted = _expired(header, unsent.store, newest, attempts), not header.boot or header.boot != boot_id()
    reasons: dict[UnsentNote, str] = {}
    for note in noted:
        untouched = {state for name in note.checkpoints for state in files.get(name, ())} == set(note.states)
        if untouched and not all((state.path, state.size, state.mtime_ns) in stored for state in note.states):
            reasons[note] = expired or (_LOST if rebooted and not note.durable else "")
    beside = [path for path in recorded if path in scan.files and "/" not in path]
    while kept := [note for note, reason in reasons.items() if not reason]:
        unfit = dict(_linked(unsent.directory, kept)) or dict(_cut(unsent.directory, kept, beside))
        if not unfit:
            break
        reasons |= unfit  # the others may need one of these: check them again
    refused: dict[str, list[str]] = {}
    for note, reason in reasons.items():
        refused.setdefault(reason, []).extend(sorted(note.checkpoints))
    attempt = header.attempt
    if kept:
        names = listed(sorted(refused.pop("")))
        _LOG.info("attempt %d had finished but not stored %s: kept in the directory, uploaded now", attempt, names)
    sentences = [
        f"attempt {attempt} had finished but not stored {listed(names)}: not used, {reason}"
        for reason, names in refused.items()
    ]
    for sentence in first_few(sentences):
        _LOG.warning("%s", sentence)
    unsent.noted = tuple(kept)
    return kept


def _expired(header: Header, store: str, newest: Snapshot | None, attempts: Collection[int]) -> str:
    """Return why the notes are not valid any more; empty: they are."""
    if header.store != store:
        return f"it belongs to {header.store}"
    own = newest is not None and (newest.attempt, newest.token) == (header.attempt, header.token)
    last = own or header.after == (newest.name if newest else "")
    return "" if last and header.attempt in attempts else "another attempt has committed since"


def _linked(directory: Path, kept: Sequence[UnsentNote]) -> Iterator[tuple[UnsentNote, str]]:
    """Yield the notes with links to files that are not kept: a restore may replace these."""
    root = directory.resolve()
    inside = {root / state.path for note in kept for state in note.states}
    for note in kept:
        for state in note.states:
            if (directory / state.path).resolve() not in inside:
                yield note, f"{state.path} is a link to a file that is not kept"


def _cut(directory: Path, kept: Sequence[UnsentNote], beside: Iterable[str]) -> Iterator[tuple[UnsentNote, str]]:
    """Yield the notes of files that are provably not whole: a file may be noted before it is probed."""
    from holdfast import probes  # noqa: PLC0415  as in file_upload.py

    reasons: dict[str, str] = {}
    sets: dict[str, list[str]] = {}
    for path in (*beside, *(state.path for note in kept for state in note.states)):
        sets.setdefault(group_of(path), []).append(path)
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
