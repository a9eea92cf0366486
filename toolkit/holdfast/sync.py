"""Sync: one pass that stores what changed in the checkpoint directory and commits a snapshot, record last."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

from holdfast import catalog, checksum, disk, keys, probes, transfer
from holdfast.attempt import Attempt
from holdfast.base import Base
from holdfast.disk import FileState, Scan
from holdfast.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    CutFileError,
    DamagedError,
    FileChangedError,
    HoldfastError,
    NoBucketError,
    NotFoundError,
    PermanentStoreError,
    SupersededError,
)
from holdfast.keeping import Keeper, Tidied
from holdfast.names import checkpoint_of, is_log
from holdfast.plain import PlainKeys
from holdfast.record import Fence, FileEntry, Snapshot
from holdfast.retention import Retention
from holdfast.store import Part, Store
from holdfast.storing import Storer


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
        clock: the time now, UTC.
        tell: gets a sentence about what the operator should know.
        room_for_prefix: bytes that the prefix takes of a key's 1,024.
        only: look at this one checkpoint of the directory instead of all.
        progress: gets the bytes of each piece that was sent.
    """

    def __init__(
        self,
        store: Store,
        directory: Path,
        attempt: Attempt,
        base: Base,
        *,
        retention: Retention | None = None,
        workers: Executor,
        clock: Callable[[], datetime],
        tell: Callable[[str], None],
        room_for_prefix: int = 0,
        only: str | None = None,
        progress: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.snapshots = 0
        """Snapshots committed in this attempt."""
        self._store = store
        self._directory = directory
        self._attempt = attempt
        self._workers = workers
        self._clock = clock
        self._tell = tell
        self._room = room_for_prefix + keys.room(attempt.slot)
        self._only = only
        self._adopted = dict(base.adopted)
        self._plain = PlainKeys(store, attempt.owner, base.plain, workers)
        self._entries = dict(base.files)
        self._storer = Storer(
            store, directory, attempt, plain=self._plain, known=self._entries.values(), progress=progress
        )
        self._keeper = Keeper(
            store,
            retention or Retention(),
            attempt.number,
            base.found,
            passed_over=base.passed_over,
            plain=self._plain,
            workers=workers,
            clock=lambda: clock().timestamp(),
        )
        self._left_out: dict[str, str] = {}
        self._sequence = 0
        self._untidy = False
        files = self.scan().files
        self._states = {
            path: files[path]
            for path, entry in base.files.items()
            if path in files and (files[path].size, files[path].mtime_ns) == (entry.size, entry.mtime_ns)
        }

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
        states = [
            state for path, state in scan.files.items() if self._states.get(path) != state or path not in self._entries
        ]
        newest: dict[str, int] = {}
        for state in states:
            newest[state.checkpoint] = max(newest.get(state.checkpoint, 0), state.mtime_ns)
        return sorted(states, key=lambda state: (-newest[state.checkpoint], state.checkpoint, state.path))

    def vanished(self, scan: Scan) -> list[str]:
        """Return the paths that the last snapshot has and the directory has not; none when the directory is empty.

        An empty directory is no state to commit: a script that wipes it at its start must not wipe what is stored.
        """
        return [path for path in self._entries if path not in scan.files] if scan.files else []

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
        cut = self._cut_sets(scan)
        skipped = {path for path in held if is_log(path)}
        waiting = {checkpoint_of(path) for path in held if path not in skipped} | {checkpoint_of(path) for path in cut}
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
        snapshot = self._commit(entries) if self._worth_a_commit(entries) else None
        for path in entries.keys() & stored.keys():
            self._states[path] = scan.files[path]
        return Synced(snapshot, self.uploaded - before, unfinished)

    def _cut_sets(self, scan: Scan) -> dict[str, HoldfastError]:
        """Return what changed and is provably not whole because files that belong to it are missing or too short."""
        changed = {_unit(state.path) for state in self.changed(scan)}
        groups: dict[str, list[str]] = {}
        for path in scan.files:
            groups.setdefault(_unit(path), []).append(path)
        return {
            path: CutFileError(f"it is not whole: {reason}")
            for unit in sorted(changed)
            for path, reason in probes.probe_checkpoint(self._directory, groups[unit]).items()
        }

    def _name_left_out(self, scan: Scan) -> None:
        for path, reason in scan.left_out.items():
            if self._left_out.get(path) != reason:
                self._tell(f"{path!r} cannot be part of a snapshot: {reason}")
        self._left_out = dict(scan.left_out)

    def _store_all(
        self, todo: list[FileState], should_stop: Callable[[], bool], should_leave: Callable[[], bool]
    ) -> tuple[dict[str, FileEntry], dict[str, HoldfastError]]:
        """Store files: small ones side by side, large ones one after the other in parallel parts."""
        stored: dict[str, FileEntry] = {}
        unfinished: dict[str, HoldfastError] = {}
        steps: list[tuple[FileState, Callable[[], FileEntry]]] = []
        for state in todo:
            store_file = partial(self._storer.store_file, state, should_stop=should_stop, should_leave=should_leave)
            if state.size < transfer.SINGLE_PUT:
                steps.append((state, self._workers.submit(store_file, None).result))
            else:
                steps.append((state, partial(store_file, self._workers)))
        failure: Exception | None = None
        for state, step in steps:
            try:
                stored[state.path] = step()
            except (AccessDeniedError, NoBucketError) as error:
                failure = failure or error  # not of this file, but of the whole store
            except (FileChangedError, CutFileError, PermanentStoreError, transfer.StoppedError) as error:
                unfinished[state.path] = error
            except Exception as error:  # noqa: BLE001  every future is waited for; the first failure is raised below
                failure = failure or error
        if failure is not None:
            raise failure
        return stored, unfinished

    def _worth_a_commit(self, entries: Mapping[str, FileEntry]) -> bool:
        if entries == self._entries:
            return False
        if not entries:
            self._tell("the checkpoint directory is empty: the last snapshot stays the newest")
            return False
        return True

    def _commit(self, entries: dict[str, FileEntry]) -> Snapshot:
        """Put the record of a snapshot.

        Raises:
            SupersededError: another attempt has ended this one.
        """
        while True:
            snapshot = Snapshot(
                attempt=self._attempt.number,
                sequence=self._sequence + 1,
                created=self._clock(),
                host=self._attempt.host,
                version=self._attempt.version,
                files=entries,
                adopted=self._adopted,
            )
            if self._put(snapshot):
                break
        self._committed(snapshot)
        self._states = {path: state for path, state in self._states.items() if path in entries}
        return snapshot

    def _put(self, snapshot: Snapshot) -> bool:
        """Put a record; return False when an earlier record of ours is there: its answer was lost."""
        key, text = keys.snapshot_key(snapshot.name), snapshot.to_json()
        try:
            if not self._attempt.conditional and catalog.exists(self._store, key):
                raise AlreadyExistsError(snapshot.name)
            self._store.put(
                key,
                Part(text, 0, len(text), checksum.crc64nvme(text)),
                metadata={keys.OWNER: self._attempt.owner},
                only_if_absent=True,
            )
        except AlreadyExistsError:
            self._committed(self._refuse_fence(snapshot.name))
            return False
        return True

    def refuse_if_superseded(self) -> None:
        """Look whether another attempt has taken over, where nothing is committed that would show it.

        Raises:
            SupersededError: it has.
            StoreError: the store cannot be read.
        """
        name = keys.snapshot_name(self._attempt.number, self._sequence + 1, self._attempt.slot)
        if catalog.exists(self._store, keys.snapshot_key(name)):
            self._refuse_fence(name)

    def _refuse_fence(self, name: str) -> Snapshot:
        """Return the record of ours that lies where the next one was to go; raise when it is a fence."""
        there = catalog.load_record(self._store, name)
        if isinstance(there, Fence):
            raise SupersededError(
                f"attempt {there.attempt} on {there.host} goes on from where this attempt, "
                f"{self._attempt.number}, was: nothing more is stored from here"
            )
        return there

    def _committed(self, snapshot: Snapshot) -> None:
        self._sequence = snapshot.sequence
        self._entries = dict(snapshot.files)
        self._keeper.add(snapshot)
        self.snapshots += 1
        self._untidy = True

    def tidy(self, *, should_stop: Callable[[], bool] = lambda: False) -> Tidied:
        """After a commit: bring the plain keys up to date and delete what is no longer kept.

        Args:
            should_stop: asked between requests; the next call goes on.

        Raises:
            StoreError: the store did not do something; the next call tries it again.
        """
        if not self._untidy:
            return Tidied()
        self._keeper.read()
        try:
            self._publish_all(should_stop)
        except transfer.StoppedError:
            return Tidied()
        tidied = self._keeper.tidy(should_stop=should_stop)
        self._storer.gone(tidied.objects)
        self._untidy = should_stop()
        return tidied

    def _publish_all(self, should_stop: Callable[[], bool]) -> None:
        """Give every plain key the content that the newest snapshot has for it."""
        named: dict[tuple[str, str], list[str]] = {}
        for path, entry in self._entries.items():
            named.setdefault((entry.key, entry.etag), []).append(path)
        for path, entry in list(self._entries.items()):
            if entry.key == path:
                continue
            if should_stop():
                raise transfer.StoppedError("no time was left to bring the plain keys up to date")
            if self._plain.is_outdated(entry):
                self._make_room(path, named, should_stop)
                self._plain.publish(entry, should_stop=should_stop)
            published = self._plain.as_published(entry)
            if published is not None:
                self._entries[path] = published
                self._storer.moved(published)

    def _make_room(self, key: str, named: Mapping[tuple[str, str], list[str]], should_stop: Callable[[], bool]) -> None:
        """Preserve what lies at a plain key if a kept snapshot needs it; it is about to be overwritten."""
        etag = self._plain.etag(key)
        needed = self._keeper.needed_at(key, etag) if etag is not None else None
        self._storer.gone([key])
        if needed is None:
            return
        try:
            preserved = self._plain.preserve(needed, should_stop=should_stop)
        except (DamagedError, NotFoundError) as error:
            self._tell(f"somebody has overwritten what older snapshots need, they cannot be restored any more: {error}")
            return
        self._keeper.preserved(preserved)
        self._storer.moved(preserved)
        for path in named.get((needed.key, needed.etag), ()):  # renamed: its content lies where its old name was
            self._entries[path] = replace(self._entries[path], key=preserved.key, etag=preserved.etag)


def _unit(path: str) -> str:
    """Return what is committed together in a flush: a directory's name, or "" for the files at the top level."""
    return checkpoint_of(path) if "/" in path else ""
