"""Sync: one pass that stores what changed in the checkpoint directory and commits a snapshot, record last."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from holdfast import checksum, disk, record, transfer
from holdfast.attempt import Attempt
from holdfast.disk import FileState, Scan
from holdfast.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    FileChangedError,
    HoldfastError,
    NoBucketError,
    PermanentStoreError,
)
from holdfast.names import checkpoint_of, is_log
from holdfast.record import FileEntry, Snapshot
from holdfast.store import Part, Store


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
        base: the entries that the directory was restored from, by path.
        taken: plain keys that exist already.
        adopted: foreign objects that have been taken in already, key → ETag.
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
        *,
        base: Mapping[str, FileEntry],
        taken: Iterable[str],
        adopted: Mapping[str, str] | None = None,
        workers: Executor,
        clock: Callable[[], datetime],
        tell: Callable[[str], None],
        room_for_prefix: int = 0,
        only: str | None = None,
        progress: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.uploaded = 0
        """Bytes of content that travelled in this attempt."""
        self.snapshots = 0
        """Snapshots committed in this attempt."""
        self._store = store
        self._directory = directory
        self._attempt = attempt
        self._entries = dict(base)
        self._taken = set(taken)
        self._workers = workers
        self._clock = clock
        self._tell = tell
        # Content keys, the record and 14 characters of numbers must fit too.
        self._room = room_for_prefix + len(record.OBJECTS) + len(record.snapshot_name(1, 1)) + 1
        self._content = {(entry.size, entry.crc64nvme): (entry.key, entry.etag) for entry in base.values()}
        self._left_out: dict[str, str] = {}
        self._pass = 0
        self._sequence = 0
        self._adopted = dict(adopted or {})
        self._only = only
        self._progress = progress
        files = self.scan().files
        self._states = {
            path: files[path]
            for path, entry in base.items()
            if path in files and (files[path].size, files[path].mtime_ns) == (entry.size, entry.mtime_ns)
        }

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
        self._pass += 1
        self._name_left_out(scan)
        skipped = {path for path in held if is_log(path)}
        waiting = {checkpoint_of(path) for path in held if path not in skipped}
        todo = [s for s in self.changed(scan) if s.checkpoint not in waiting and s.path not in skipped]
        before = self.uploaded
        stored, unfinished = self._store_all(todo, should_stop, should_leave)
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
            if state.size < transfer.SINGLE_PUT:
                future = self._workers.submit(self._store_one, state, None, should_stop, should_leave)
                steps.append((state, future.result))
            else:
                steps.append((state, partial(self._store_one, state, self._workers, should_stop, should_leave)))
        failure: Exception | None = None
        for state, step in steps:
            try:
                stored[state.path] = step()
            except (AccessDeniedError, NoBucketError) as error:
                failure = failure or error  # not of this file, but of the whole store
            except (FileChangedError, PermanentStoreError, transfer.StoppedError) as error:
                unfinished[state.path] = error
            except Exception as error:  # noqa: BLE001  every future is waited for; the first failure is raised below
                failure = failure or error
        if failure is not None:
            raise failure
        return stored, unfinished

    def _store_one(
        self,
        state: FileState,
        parts: Executor | None,
        should_stop: Callable[[], bool],
        should_leave: Callable[[], bool],
    ) -> FileEntry:
        if should_stop() or should_leave():
            raise transfer.StoppedError(f"{state.path}: no time was left to send it")
        path = self._directory / state.path
        sums = transfer.checksum_file(path, size=state.size)
        self._refuse_if_changed(state)
        place = self._content.get((state.size, sums.whole))
        if place is None:
            place = self._upload(state, sums, parts, should_stop)
            self._refuse_if_changed(state)
            self._content[(state.size, sums.whole)] = place
        key, etag = place
        return FileEntry(state.path, state.size, state.mtime_ns, state.mode, sums.whole, key, etag)

    def _refuse_if_changed(self, state: FileState) -> None:
        if disk.look(self._directory, state.path) != state:
            raise FileChangedError(f"{state.path} changed while it was read")

    def _upload(
        self, state: FileState, sums: transfer.Checksums, parts: Executor | None, should_stop: Callable[[], bool]
    ) -> tuple[str, str]:
        """Send a file to its plain key, or to a content key when that is taken: nothing is ever overwritten."""
        send = partial(
            transfer.upload_file,
            self._store,
            path=self._directory / state.path,
            size=state.size,
            checksums=sums,
            metadata={record.OWNER: str(self._attempt.number)},
            only_if_absent=True,
            workers=parts,
            progress=self._progress,
            should_stop=should_stop,
        )
        etag, key = None, state.path
        if key not in self._taken:
            self._taken.add(key)  # also when it fails: what lies there then is not known
            with contextlib.suppress(AlreadyExistsError):
                etag = send(key)
        if etag is None:
            key = f"{record.OBJECTS}{record.snapshot_name(self._attempt.number, self._pass)}/{state.path}"
            etag = send(key)
        self.uploaded += state.size
        return key, etag

    def _worth_a_commit(self, entries: Mapping[str, FileEntry]) -> bool:
        if entries == self._entries:
            return False
        if not entries:
            self._tell("the checkpoint directory is empty: the last snapshot stays the newest")
            return False
        return True

    def _commit(self, entries: dict[str, FileEntry]) -> Snapshot:
        self._sequence += 1  # also when it fails: the record may be there although its answer was lost
        snapshot = Snapshot(
            attempt=self._attempt.number,
            sequence=self._sequence,
            created=self._clock(),
            host=self._attempt.host,
            version=self._attempt.version,
            files=entries,
            adopted=self._adopted,
        )
        text = snapshot.to_json()
        self._store.put(
            record.snapshot_key(snapshot.name),
            Part(text, 0, len(text), checksum.crc64nvme(text)),
            metadata={record.OWNER: str(self._attempt.number)},
            only_if_absent=True,
        )
        self.snapshots += 1
        self._entries = entries
        self._states = {path: state for path, state in self._states.items() if path in entries}
        return snapshot


def _unit(path: str) -> str:
    """Return what is committed together in a flush: a directory's name, or "" for the files at the top level."""
    return checkpoint_of(path) if "/" in path else ""
