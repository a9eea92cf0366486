"""Sync: one pass that stores what changed in the checkpoint directory and commits a snapshot, record last."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from holdfast import disk, keys, transfer
from holdfast.attempt import Attempt
from holdfast.base import Base
from holdfast.commits import Commits
from holdfast.disk import FileState, Scan
from holdfast.errors import (
    AccessDeniedError,
    CutFileError,
    FileChangedError,
    HoldfastError,
    NoBucketError,
    StoreError,
    TransientStoreError,
)
from holdfast.keeping import Keeper, Scope, Tidied
from holdfast.names import checkpoint_of, is_log
from holdfast.plain import PlainKeys
from holdfast.record import FileEntry, Snapshot
from holdfast.retention import Retention
from holdfast.store import Store
from holdfast.storing import Storer
from holdfast.tidying import Tidier
from holdfast.unfinished import Unfinished

FILES_AT_A_TIME = 3
"""Large files that are under way: one that is completed, one whose last parts travel, one whose first ones do."""


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


class Syncer:
    """Stores changes of one checkpoint directory under one prefix. Not safe for several threads: one of them owns it.

    Args:
        store: where the prefix is.
        directory: the checkpoint directory.
        attempt: whose snapshots these are.
        base: what the directory was restored from.
        retention: which snapshots are kept.
        workers: runs the transfers.
        drivers: runs what waits for the parts of a large file, so that those of the next one are on their way while it
            is completed; None: one file is completed before the next begins. Never the executor of the transfers.
        clock: the time now, UTC.
        tell: gets a sentence about what the operator should know.
        room_for_prefix: bytes that the prefix takes of a key's 1,024.
        only: look at this one checkpoint of the directory instead of all.
        progress: gets the bytes of each piece that was sent.
        sha256: note the SHA-256 of every file too.
    """

    def __init__(  # noqa: PLR0913  each is a decision of its own of the caller's
        self,
        store: Store,
        directory: Path,
        attempt: Attempt,
        base: Base,
        *,
        retention: Retention | None = None,
        workers: Executor,
        drivers: Executor | None = None,
        clock: Callable[[], datetime],
        tell: Callable[[str], None],
        room_for_prefix: int = 0,
        only: str | None = None,
        progress: Callable[[int], None] = lambda size: None,
        sha256: bool = False,
    ) -> None:
        self.snapshots = 0
        """Snapshots committed in this attempt."""
        self._directory = directory
        self._attempt = attempt
        self._workers = workers
        self._drivers = drivers
        self._tell = tell
        self._room = room_for_prefix + keys.room(attempt.slot)
        self._only = only
        self._entries = {path: base.located(entry) for path, entry in base.files.items()}
        plain = PlainKeys(store, attempt, base.plain, workers)
        unfinished = Unfinished(directory, attempt.slot)
        self._storer = Storer(
            store,
            directory,
            attempt,
            plain=plain,
            known=self._entries.values(),
            unfinished=unfinished,
            progress=progress,
            tell=tell,
            sha256=sha256,
        )
        keeper = Keeper(
            store,
            retention or Retention(),
            Scope(attempt.number, frozenset({attempt.slot}), attempt.hosts, rest=attempt.leads),
            base.found,
            passed_over=base.passed_over,
            # Until all hosts have something newer in common, this is what they would go back to.
            protected=base.names if attempt.hosts else (),
            needed=base.theirs.values(),
            plain=plain,
            workers=workers,
            clock=lambda: clock().timestamp(),
            resumable=unfinished.ids,
        )
        self._commits = Commits(store, attempt, base.adopted, clock)
        self._tidier = Tidier(
            plain, keeper, self._storer, refuse_if_superseded=self._commits.refuse_if_superseded, tell=tell
        )
        self._left_out: dict[str, str] = {}
        files = self.scan().files
        self._states = _as_restored(base.files, files)
        self._theirs = _as_restored(base.theirs, files)

    @property
    def uploaded(self) -> int:
        """Bytes of content that travelled in this attempt."""
        return self._storer.uploaded

    def scan(self) -> Scan:
        """Look at the checkpoint directory."""
        return disk.scan(self._directory, room_for_prefix=self._room, only=self._only)

    def newest_checkpoint_size(self) -> int:
        """Return the bytes of the newest checkpoint of the last snapshot: what the next one is likely to weigh."""
        if not self._entries:
            return 0
        newest = max(self._entries.values(), key=lambda entry: entry.mtime_ns)
        return sum(
            entry.size for path, entry in self._entries.items() if checkpoint_of(path) == checkpoint_of(newest.path)
        )

    def changed(self, scan: Scan) -> list[FileState]:
        """Return the files that are not as the last snapshot has them, those of the newest checkpoint first."""
        states = [state for path, state in scan.files.items() if self._is_news(path, state)]
        newest: dict[str, int] = {}
        for state in states:
            newest[state.checkpoint] = max(newest.get(state.checkpoint, 0), state.mtime_ns)
        return sorted(states, key=lambda state: (-newest[state.checkpoint], state.checkpoint, state.path))

    def _is_news(self, path: str, state: FileState) -> bool:
        if path in self._entries:
            return self._states.get(path) != state
        return self._theirs.get(path) != state  # what another host wrote, and nobody here has touched, is its business

    def vanished(self, scan: Scan) -> list[str]:
        """Return the paths that the last snapshot has and the directory has not; none when the directory is empty.

        An empty directory is no state to commit: a script that wipes it at its start must not wipe what is stored.
        """
        gone = [path for path in self._entries if path not in scan.files] if scan.files else []
        return [path for path in gone if not _is_below(path, scan.unreadable)]

    def stored_before(self, paths: Collection[str]) -> set[str]:
        """Return those of `paths` that the last snapshot has too."""
        return self._entries.keys() & set(paths)

    def flush(self, scan: Scan, held: Collection[str], *, should_stop: Callable[[], bool]) -> Synced:
        """Store what changed, newest first, and commit after each unit, so that what was first is durable first.

        A unit is a directory, or all files at the top level together: those that are overwritten side by side (weights
        and their JSON) may belong to each other.

        Args and errors as `sync`; the snapshot is the last that was committed.
        """
        units = list(dict.fromkeys(_unit(state.path) for state in self.changed(scan)))
        before, done = self.uploaded, Synced(None, 0, {})
        unfinished: dict[str, HoldfastError] = {}
        for number in range(max(1, len(units))):
            later = {path for path in scan.files if _unit(path) in units[number + 1 :]}
            one = self.sync(scan, {*held, *later}, should_stop=should_stop)
            unfinished |= one.unfinished
            done = Synced(one.snapshot or done.snapshot, self.uploaded - before, unfinished)
        return done

    def sync(
        self,
        scan: Scan,
        held: Collection[str] = (),
        *,
        should_stop: Callable[[], bool] = lambda: False,
        should_leave: Callable[[], bool] = lambda: False,
    ) -> Synced:
        """Store what changed and commit.

        A log in `held` keeps the version that the snapshot before had. A checkpoint with any other file in `held`, or
        with one that changes while it is read, keeps that version as a whole.

        Args:
            scan: the directory as it is.
            held: paths that may not be taken yet.
            should_stop: asked before and while a file is sent; what has not been sent by then is left out, and named.
            should_leave: the same, asked only before a file.

        Raises:
            StoreError: the store did not take something; nothing was committed, and what was stored is not sent again.
        """
        self._storer.number += 1
        self._name_left_out(scan)
        skipped = {path for path in held if is_log(path)}
        waiting = {checkpoint_of(path) for path in held if path not in skipped}
        waiting |= {checkpoint_of(path) for path in scan.unreadable}
        cut = self._cut_sets(scan, waiting)
        waiting |= {checkpoint_of(path) for path in cut}
        todo = [s for s in self.changed(scan) if s.checkpoint not in waiting and s.path not in skipped]
        before = self.uploaded
        stored, unfinished = self._store_all(todo, should_stop, should_leave)
        unfinished |= cut
        skipped |= {path for path in unfinished if is_log(path)}
        waiting |= {checkpoint_of(path) for path in unfinished if path not in skipped}
        entries = {path: entry for path, entry in self._entries.items() if checkpoint_of(path) in waiting}
        for path, state in scan.files.items():
            if state.checkpoint not in waiting and (path in stored or path in self._entries):
                entries[path] = stored[path] if path in stored else self._entries[path]
        snapshot = self._commit(entries, complete=not waiting) if self._worth_a_commit(entries) else None
        for path in entries.keys() & stored.keys():
            self._states[path] = scan.files[path]
        return Synced(snapshot, self.uploaded - before, unfinished)

    def _cut_sets(self, scan: Scan, waiting: Collection[str]) -> dict[str, HoldfastError]:
        """Return what changed and is provably not whole because files that belong to it are missing or too short."""
        from holdfast import probes  # noqa: PLC0415  as in storing.py

        changed = {_unit(state.path) for state in self.changed(scan) if state.checkpoint not in waiting}
        alone = not self._attempt.hosts
        groups: dict[str, list[str]] = {}
        for path in scan.files:
            groups.setdefault(_unit(path), []).append(path)
        found: dict[str, HoldfastError] = {}
        for unit in sorted(changed):
            with contextlib.suppress(OSError):  # what cannot be read is named when it is to be stored
                reasons = probes.probe_checkpoint(self._directory, groups[unit], alone=alone)
                found |= {path: CutFileError(f"it is not whole: {reason}") for path, reason in reasons.items()}
        return found

    def _name_left_out(self, scan: Scan) -> None:
        for path, reason in scan.left_out.items():
            if self._left_out.get(path) != reason:
                self._tell(f"{path!r} cannot be part of a snapshot: {reason}")
        self._left_out = dict(scan.left_out)

    def _store_all(
        self, todo: list[FileState], should_stop: Callable[[], bool], should_leave: Callable[[], bool]
    ) -> tuple[dict[str, FileEntry], dict[str, HoldfastError]]:
        """Store files: small ones side by side, the parts of large ones side by side, one file after the other."""
        stored: dict[str, FileEntry] = {}
        unfinished: dict[str, HoldfastError] = {}
        steps: list[tuple[FileState, Callable[[], FileEntry]]] = []
        for state in sorted(todo, key=lambda state: state.size >= transfer.SINGLE_PUT):  # the small ones begin first
            store_file = partial(self._storer.store_file, state, should_stop=should_stop, should_leave=should_leave)
            if state.size < transfer.SINGLE_PUT:
                steps.append((state, self._workers.submit(store_file, None).result))
            else:
                steps.append((state, self._begin_large(store_file)))
        failure: Exception | None = None
        for state, step in steps:
            try:
                stored[state.path] = step()
            except (AccessDeniedError, NoBucketError) as error:
                failure = failure or error  # not of this file, but of the whole store
            except (FileChangedError, CutFileError, StoreError, transfer.StoppedError) as error:
                unfinished[state.path] = error  # one name that a server or a proxy refuses holds back no other
            except Exception as error:  # noqa: BLE001  every future is waited for; the first failure is raised below
                failure = failure or error
        if failure is None and not stored:
            failure = next((error for error in unfinished.values() if isinstance(error, TransientStoreError)), None)
        if failure is not None:
            raise failure
        return stored, unfinished

    def _begin_large(self, store_file: Callable[..., FileEntry]) -> Callable[[], FileEntry]:
        """Begin to store a large file, and return when there is room for the parts of the next; its result follows."""
        if self._drivers is None:
            return partial(store_file, self._workers)
        last = threading.Event()
        future = self._drivers.submit(store_file, self._workers, on_last=last.set)
        future.add_done_callback(lambda _: last.set())
        last.wait()
        return future.result

    def _worth_a_commit(self, entries: Mapping[str, FileEntry]) -> bool:
        if entries == self._entries:
            return False
        if not entries:
            self._tell("the checkpoint directory is empty: the last snapshot stays the newest")
            return False
        return True

    def commit_base(self) -> None:
        """Commit what was restored as it is, where newer snapshots did not verify: the next start need not try them.

        Raises:
            SupersededError, StoreError: as `sync`.
        """
        self._commit(self._entries, complete=True)

    def _commit(self, entries: Mapping[str, FileEntry], *, complete: bool) -> Snapshot:
        snapshot = self._take_in(self._commits.commit(entries, complete=complete))
        self.snapshots += 1
        self._states = {path: state for path, state in self._states.items() if path in entries}
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
            self._take_in(self._commits.repeat(self._entries, ended=ended))

    def _take_in(self, committed: Sequence[Snapshot]) -> Snapshot:
        for snapshot in committed:
            self._tidier.committed(snapshot)
        self._entries = dict(committed[-1].files)
        return committed[-1]

    def refuse_if_superseded(self) -> None:
        """As `Commits.refuse_if_superseded`."""
        self._commits.refuse_if_superseded()

    def tidy(self, *, should_stop: Callable[[], bool] = lambda: False) -> Tidied:
        """After a commit: bring the plain keys up to date and delete what is no longer kept.

        Args:
            should_stop: asked between requests; the next call goes on.

        Raises:
            StoreError: the store did not do something; the next call tries it again.
        """
        return self._tidier.tidy(self._entries, should_stop)


def _as_restored(entries: Mapping[str, FileEntry], files: Mapping[str, FileState]) -> dict[str, FileState]:
    """Return the files that are in the directory as they came from the store."""
    return {
        path: files[path]
        for path, entry in entries.items()
        if path in files and (files[path].size, files[path].mtime_ns) == (entry.size, entry.mtime_ns)
    }


def _is_below(path: str, directories: Collection[str]) -> bool:
    return any(path.startswith(f"{directory}/") for directory in directories)


def _unit(path: str) -> str:
    """Return what is committed together in a flush: a directory's name, or "" for the files at the top level."""
    return checkpoint_of(path) if "/" in path else ""
