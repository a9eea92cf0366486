"""Sync: one pass that stores what changed in the checkpoint directory and commits a snapshot, record last."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import HoldfastError
from holdfast.local.groups import Unit, split, units
from holdfast.local.scan import FileState, Scan
from holdfast.local.unsent import Life, Unsent
from holdfast.maintenance.collect import Collected
from holdfast.maintenance.plain_keys import PlainKeys
from holdfast.maintenance.upkeep import Upkeep
from holdfast.names import checkpoint_of, is_log
from holdfast.restore.base import Base
from holdfast.restore.deferred import Deferred
from holdfast.snapshot.attempt import Attempt
from holdfast.snapshot.commit import Commits
from holdfast.snapshot.record import FileEntry, Snapshot
from holdfast.stop import NEVER, StopToken
from holdfast.sync.changes import Changes
from holdfast.sync.file_upload import FileUploader
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
        snapshot: what was committed; None when nothing had changed.
        bytes_uploaded: bytes of content that travelled.
        unfinished: path → why it is not in the snapshot although it changed.
    """

    snapshot: Snapshot | None
    bytes_uploaded: int
    unfinished: Mapping[str, HoldfastError]

    @property
    def sentence(self) -> str:
        """What was committed, for the log; empty when nothing was."""
        if self.snapshot is None:
            return ""
        files = counted(len(self.snapshot.files), "file")
        return f"snapshot {self.snapshot.name}: {files}, {self.snapshot.size:,} bytes, {self.bytes_uploaded:,} sent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a syncer, as `assemble` makes them.

    Attributes:
        bandwidth: measures the transfers.
        absent: files of the last snapshot that are deferred: the background restore may still place them.
        look: scans the checkpoint directory.
        plain: what lies at the plain keys.
        known: content that the store has.
        uploader: stores one file.
        outbox: sends files.
        commits: writes records.
        changes: the last snapshot, and how the directory differs from it.
        upkeep: follows a commit: plain keys and expiry.
        unsent: note of finished checkpoints that are not stored yet; None: nothing is noted.
    """

    bandwidth: Bandwidth
    absent: Deferred
    look: Callable[[], Scan]
    plain: PlainKeys
    known: ContentIndex
    uploader: FileUploader
    outbox: Outbox
    commits: Commits
    changes: Changes
    upkeep: Upkeep
    unsent: Unsent | None


class Syncer:
    """Commit the changes of one checkpoint directory under one prefix. Owned by one thread; `assemble` makes it."""

    def __init__(self, directory: Path, attempt: Attempt, base: Base, parts: Parts) -> None:
        self.snapshots = 0
        """Snapshots committed in this attempt."""
        self.bandwidth = parts.bandwidth
        self.absent = parts.absent
        self._directory = directory
        self._attempt = attempt
        self._untaken = dict(base.untaken)
        self._base_name = base.names[-1] if base.names else ""
        self._look = parts.look
        self._plain = parts.plain
        self._known = parts.known
        self._uploader = parts.uploader
        self._outbox = parts.outbox
        self._commits = parts.commits
        self._committed = parts.changes
        self._upkeep = parts.upkeep
        self._unsent = parts.unsent
        self._left_out: dict[str, str] = {}

    @property
    def uploaded(self) -> int:
        """Bytes of content that travelled in this attempt."""
        return self._uploader.uploaded

    def scan(self) -> Scan:
        """Look at the checkpoint directory."""
        placed = self.absent.before_look()
        scan = self._look()
        if self.absent:
            self._take_arrived(scan, placed)
        return scan

    def _take_arrived(self, scan: Scan, placed: Collection[str]) -> None:
        """Take note of absent files that are there now, or are no longer wanted."""
        seen = self.absent.look(scan.files, placed)
        self._committed.arrived(seen.arrived, seen.adopted if self._attempt.leads else {})
        for entry in seen.adopted.values():
            self._known.add(entry)
        for key in (seen.adopted.keys() | seen.replaced) & self._untaken.keys():
            self._commits.adopt(key, self._untaken.pop(key))
            self._plain.adopt(key)

    def located(self, path: str) -> FileEntry | None:
        """Return where the content of a file of the last snapshot lies now. May be called from another thread."""
        return self._committed.entries.get(path)

    def newest_checkpoint_size(self) -> int:
        """As `Changes.newest_checkpoint_size`."""
        return self._committed.newest_checkpoint_size()

    def changed(self, scan: Scan) -> list[FileState]:
        """As `Changes.changed`."""
        return self._committed.changed(scan)

    def vanished(self, scan: Scan) -> list[str]:
        """As `Changes.vanished`."""
        return self._committed.vanished(scan)

    def stored_before(self, paths: Collection[str]) -> set[str]:
        """Return those of `paths` that the last snapshot has too."""
        return self._committed.entries.keys() & set(paths)

    def unsent(self, state: FileState) -> int:
        """Return how many bytes of a changed file have yet to travel."""
        return self._outbox.unsent(state)

    def settled(self, scan: Scan, waiting: Collection[str]) -> list[Unit]:
        """Return what changed and may be taken, as `note_unsent` wants it: all but the checkpoints of `waiting`."""
        held = set(map(checkpoint_of, waiting))
        states = [state for state in self.changed(scan) if state.checkpoint not in held]
        overwritten = self.stored_before({state.path for state in states})
        return [part for unit in units(states, self.unsent) for part in split(unit, self.unsent, overwritten)]

    def note_unsent(self, scan: Scan, pending: Iterable[Unit], *, at_rest: bool = False) -> None:
        """Note for the next life on this directory what is finished and yet to be sent.

        Args:
            scan: the directory.
            pending: what of it.
            at_rest: the script has ended, and what it wrote may be brought to the disk in a hurry.
        """
        if self._unsent is not None:
            newest = self._commits.newest
            after = newest.name if newest else self._base_name
            life = Life(attempt=self._attempt.number, token=self._attempt.token, after=after)
            self._unsent.note(life, scan, pending, at_rest=at_rest)

    def left_over(self) -> list[str]:
        """Return the checkpoints that are noted so, for the log."""
        return [name for it in self._unsent.noted for name in sorted(it.checkpoints)] if self._unsent else []

    def send_ahead(self, states: Iterable[FileState], *, stop: StopToken) -> None:
        """Send files that cannot be committed yet, so that at the commit only the others are left.

        No snapshot names what was sent until its checkpoint is complete. What changes again before that is sent
        again, and what was sent of it goes with the next complete snapshot.

        Args and errors as `Outbox.send`.
        """
        with self.bandwidth.sending():
            self._outbox.send(states, stop=stop)

    def sync(
        self,
        scan: Scan,
        held: Collection[str] = (),
        *,
        stop: StopToken = NEVER,
    ) -> Synced:
        """Store what changed and commit.

        A log in `held` keeps the version that the snapshot before had. A checkpoint with any other file in `held`, or
        with one that changes while it is read, keeps that version as a whole. So do files at the top level that the
        snapshot before has, where one of them was stopped or refused: they may belong together.

        Args:
            scan: the directory as it is.
            held: paths that may not be taken yet.
            stop: ends the sending; what has not been sent by then is left out, and named. When winding down, no other
                file begins.

        Raises:
            StoreError: the store did not take something; nothing was committed, and what was stored is not sent again.
        """
        self._name_left_out(scan)
        skipped = {path for path in held if is_log(path)}
        waiting = {checkpoint_of(path) for path in held if path not in skipped}
        waiting |= {checkpoint_of(path) for path in scan.unreadable}
        changed = self.changed(scan)
        cut = refuse_cut_sets(
            self._directory, scan, changed, waiting, alone=not self._attempt.hosts, more=bool(self.absent)
        )
        waiting |= {checkpoint_of(path) for path in cut}
        todo = [s for s in changed if s.checkpoint not in waiting and s.path not in skipped]
        before = self.uploaded
        with self.bandwidth.sending():
            stored, unfinished = self._outbox.send(todo, stop=stop)
        unfinished |= cut
        unfinished |= left_behind(todo, unfinished, self._committed.entries)
        skipped |= {path for path in unfinished if is_log(path)}
        waiting |= {checkpoint_of(path) for path in unfinished if path not in skipped}
        last = self._committed.entries
        entries = {path: last[path] for path in last if checkpoint_of(path) in waiting or path in self.absent}
        for path, state in scan.files.items():
            if state.checkpoint not in waiting and (path in stored or path in last):
                entries[path] = stored[path] if path in stored else last[path]
        snapshot = self._commit(entries, complete=not waiting) if self._worth_a_commit(entries) else None
        # What was stored and waits for the rest of its checkpoint still is news: the snapshot has the version before.
        taken = {path for path, entry in stored.items() if entries.get(path) == entry}
        self._committed.seen(scan.files[path] for path in taken)
        self._outbox.committed(taken)
        return Synced(snapshot, self.uploaded - before, unfinished)

    def _name_left_out(self, scan: Scan) -> None:
        for path, reason in scan.left_out.items():
            if self._left_out.get(path) != reason:
                _LOG.warning("%r cannot be part of a snapshot: %s", path, reason)
        self._left_out = dict(scan.left_out)

    def _worth_a_commit(self, entries: Mapping[str, FileEntry]) -> bool:
        if entries == self._committed.entries:
            return False
        if all(path in self.absent for path in entries):
            _LOG.warning("the checkpoint directory is empty: the last snapshot stays the newest")
            return False
        return True

    def commit_base(self) -> None:
        """Commit what was restored as it is, where newer snapshots did not verify: the next start need not try them.

        Raises:
            SupersededError, StoreError: as `sync`.
        """
        self._commit(self._committed.entries, complete=True)

    def _commit(self, entries: Mapping[str, FileEntry], *, complete: bool) -> Snapshot:
        with self.bandwidth.committing():
            snapshot = self._take_in(self._commits.commit(entries, complete=complete))
        self.snapshots += 1
        return snapshot

    def speak(self, *, ended: bool = False) -> None:
        """Where several hosts commit side by side: say that the files of the last snapshot are still all there is.

        The others' checkpoints count as complete only when this host has spoken after them (`holdfast.joint`).

        Args:
            ended: the script has ended, and all it finished is stored: nothing follows in this attempt.

        Raises:
            SupersededError, StoreError: as `sync`.
        """
        newest = self._commits.newest
        if self._attempt.hosts and not (newest is not None and newest.ended):
            self._take_in(self._commits.repeat(self._committed.entries, ended=ended))

    def _take_in(self, committed: Sequence[Snapshot]) -> Snapshot:
        for snapshot in committed:
            self._upkeep.committed(snapshot)
        self._committed.take(committed[-1].files)
        return committed[-1]

    def refuse_if_superseded(self) -> None:
        """As `Commits.refuse_if_superseded`."""
        self._commits.refuse_if_superseded()

    def tidy(self, *, stop: StopToken = NEVER) -> Collected:
        """After a commit: bring the plain keys up to date and delete what is no longer kept.

        Args:
            stop: ends it between two requests; the next call goes on.

        Raises:
            StoreError: the store did not do something; the next call tries it again.
        """
        return self._upkeep.tidy(self._committed.entries, stop)
