"""Store what changed in the checkpoint directory and commit a snapshot, record last."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from holdfast.errors import HoldfastError
from holdfast.local.groups import Group, divided, grouped
from holdfast.local.scan import FileState, Scan
from holdfast.local.unsent import Header, Unsent
from holdfast.maintenance.collect import Collected
from holdfast.maintenance.plain_keys import PlainKeys
from holdfast.maintenance.upkeep import Upkeep
from holdfast.names import checkpoint_of, is_log
from holdfast.restore.deferred import Deferred
from holdfast.snapshot.attempt import Attempt
from holdfast.snapshot.commit import Commits
from holdfast.snapshot.record import FileEntry, Snapshot
from holdfast.stop import NEVER, StopToken
from holdfast.sync.changes import Changes
from holdfast.sync.hold_back import left_behind, refuse_cut_sets
from holdfast.sync.outbox import Outbox
from holdfast.transfer.content_index import ContentIndex
from holdfast.wording import counted
from holdfast.workers.bandwidth import Bandwidth

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Synced:
    """What one pass did.

    Attributes:
        snapshot: the committed snapshot; None when nothing had changed.
        unfinished: path → why it is not in the snapshot although it changed.
    """

    snapshot: Snapshot | None
    bytes_uploaded: int
    unfinished: Mapping[str, HoldfastError]

    @property
    def sentence(self) -> str:
        """The commit in a sentence for the log."""
        if self.snapshot is None:
            return ""
        files = counted(len(self.snapshot.files), "file")
        return f"snapshot {self.snapshot.name}: {files}, {self.snapshot.size:,} bytes, {self.bytes_uploaded:,} sent"


@dataclass(slots=True, kw_only=True, eq=False)
class Syncer:
    """Commit the changes of one checkpoint directory under one prefix. Owned by one thread; `assemble` makes it.

    Attributes:
        unadopted: deferred objects of other writers that no snapshot has yet: key → ETag.
        base_name: name of the record that was restored; empty on a fresh start.
    """

    directory: Path
    attempt: Attempt
    bandwidth: Bandwidth
    deferred: Deferred
    look: Callable[[], Scan]
    plain: PlainKeys
    known: ContentIndex
    outbox: Outbox
    commits: Commits
    changes: Changes
    upkeep: Upkeep
    unsent: Unsent | None
    unadopted: dict[str, str]
    base_name: str
    snapshots: int = 0
    _left_out: dict[str, str] = field(default_factory=dict)

    def scan(self) -> Scan:
        """Look at the checkpoint directory; note which deferred files have been placed, or replaced by the script."""
        placed = self.deferred.before_look()
        scan = self.look()
        if not self.deferred:
            return scan
        seen = self.deferred.look(scan.files, placed)
        self.changes.arrived(seen.arrived, seen.adopted if self.attempt.leads else {})
        for entry in seen.adopted.values():
            self.known.add(entry)
        for key in (seen.adopted.keys() | seen.replaced) & self.unadopted.keys():
            self.commits.adopt(key, self.unadopted.pop(key))
            self.plain.adopt(key)
        return scan

    def settled(self, scan: Scan, waiting: Collection[str]) -> list[Group]:
        """Return what changed and may be committed: all but the checkpoints of the paths in `waiting`."""
        held = set(map(checkpoint_of, waiting))
        states = [state for state in self.changes.changed(scan) if state.checkpoint not in held]
        return self.divide(grouped(states, self.outbox.unsent))

    def divide(self, pending: Sequence[Group]) -> list[Group]:
        """Divide groups of files into the smallest that may be committed apart."""
        overwritten = self.changes.stored_before({state.path for group in pending for state in group.states})
        return [part for group in pending for part in divided(group, self.outbox.unsent, overwritten)]

    def note_unsent(self, scan: Scan, pending: Iterable[Group], *, ended: bool = False) -> None:
        """Note for the next attempt on this directory what is finished (`pending`) and not stored yet.

        `ended`: the script has ended, so that its files may be flushed to the disk.
        """
        if self.unsent is not None:
            after = self.commits.newest.name if self.commits.newest else self.base_name
            header = Header(attempt=self.attempt.number, token=self.attempt.token, after=after)
            self.unsent.note(header, scan, pending, ended=ended)

    def unsent_checkpoints(self) -> list[str]:
        """Return the names of the checkpoints that are noted as unsent."""
        return [name for note in self.unsent.noted for name in sorted(note.checkpoints)] if self.unsent else []

    def send_ahead(self, states: Iterable[FileState], *, stop: StopToken) -> None:
        """Send files of checkpoints that are not complete yet, so that less is left to send at their commit.

        A file that changes before its checkpoint is complete is sent again, and the object that it leaves is deleted
        after the next complete snapshot. Errors as `Outbox.send`.
        """
        with self.bandwidth.sending():
            self.outbox.send(states, stop=stop)

    def sync(self, scan: Scan, held: Collection[str] = (), *, stop: StopToken = NEVER) -> Synced:
        """Store what changed and commit. Files that are not sent when `stop` stops are returned as unfinished.

        A log in `held` keeps its version in the last snapshot. A checkpoint with any other file in `held`, or with one
        that changes while it is read, keeps that version as a whole. So do files at the top level that the last
        snapshot has, where one of them was stopped or refused: they may belong together.

        Raises:
            StoreError: nothing was committed; what was stored is not sent again.
        """
        self._name_left_out(scan)
        skipped = {path for path in held if is_log(path)}
        waiting = {checkpoint_of(path) for path in held if path not in skipped}
        waiting |= {checkpoint_of(path) for path in scan.unreadable}
        changed = self.changes.changed(scan)
        cut = refuse_cut_sets(
            self.directory, scan, changed, waiting, alone=not self.attempt.hosts, more=bool(self.deferred)
        )
        waiting |= {checkpoint_of(path) for path in cut}
        todo = [s for s in changed if s.checkpoint not in waiting and s.path not in skipped]
        before = self.bandwidth.arrived
        with self.bandwidth.sending():
            stored, unfinished = self.outbox.send(todo, stop=stop)
        unfinished |= cut
        unfinished |= left_behind(todo, unfinished, self.changes.entries)
        skipped |= {path for path in unfinished if is_log(path)}
        waiting |= {checkpoint_of(path) for path in unfinished if path not in skipped}
        last = self.changes.entries
        entries = {path: last[path] for path in last if checkpoint_of(path) in waiting or path in self.deferred}
        committable = [path for path, state in scan.files.items() if state.checkpoint not in waiting]
        entries |= {path: entry for path in committable if (entry := stored.get(path) or last.get(path))}
        snapshot = self._commit(entries, complete=not waiting) if self._worth_a_commit(entries) else None
        # What was stored and waits for the rest of its checkpoint still counts as changed.
        taken = {path for path, entry in stored.items() if entries.get(path) == entry}
        self.changes.seen(scan.files[path] for path in taken)
        self.outbox.committed(taken)
        return Synced(snapshot, self.bandwidth.arrived - before, unfinished)

    def _name_left_out(self, scan: Scan) -> None:
        for path, reason in scan.left_out.items():
            if self._left_out.get(path) != reason:
                _LOG.warning("%r cannot be part of a snapshot: %s", path, reason)
        self._left_out = dict(scan.left_out)

    def _worth_a_commit(self, entries: Mapping[str, FileEntry]) -> bool:
        if entries == self.changes.entries:
            return False
        is_empty = all(path in self.deferred for path in entries)
        if is_empty:
            _LOG.warning("the checkpoint directory is empty: the last snapshot stays the newest")
        return not is_empty

    def commit_base(self) -> None:
        """Commit what was restored, where newer snapshots did not verify: the next start need not try them."""
        self._commit(self.changes.entries, complete=True)

    def _commit(self, entries: Mapping[str, FileEntry], *, complete: bool) -> Snapshot:
        with self.bandwidth.committing():
            snapshot = self._note_committed(self.commits.commit(entries, complete=complete))
        self.snapshots += 1
        return snapshot

    def repeat(self, *, ended: bool = False) -> None:
        """Repeat the last record, which says to other hosts that this one has nothing newer; alone: do nothing.

        A checkpoint of another host counts as complete only after a later record of this host (`snapshot.candidates`).
        `ended`: the script has ended, and nothing follows in this attempt.
        """
        newest = self.commits.newest
        if self.attempt.hosts and not (newest is not None and newest.ended):
            self._note_committed(self.commits.commit(self.changes.entries, repeated=True, ended=ended))

    def _note_committed(self, committed: Sequence[Snapshot]) -> Snapshot:
        for snapshot in committed:
            self.upkeep.committed(snapshot)
        self.changes.take(committed[-1].files)
        return committed[-1]

    def tidy(self, *, stop: StopToken = NEVER) -> Collected:
        """Publish plain keys and delete what is no longer kept; the next call goes on where this one ends."""
        return self.upkeep.tidy(self.changes.entries, stop)
