"""Keeping: which objects the kept snapshots need, and the deletion of those that none of them does.

Nothing is deleted here that a kept snapshot needs, that somebody else wrote, or that a live attempt may be about to
name: a snapshot's record goes first, then what only it needed; what an attempt stored and never named goes when a later
attempt exists.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Executor, wait
from dataclasses import dataclass, field, replace
from itertools import pairwise

from holdfast import names
from holdfast.errors import AccessDeniedError, DamagedError, NoBucketError, PermanentStoreError
from holdfast.maintenance.plain_keys import PlainKeys
from holdfast.maintenance.retention import Retention
from holdfast.snapshot import catalog, keys
from holdfast.snapshot.candidates import SKEW, began
from holdfast.snapshot.catalog import Catalog
from holdfast.snapshot.ownership import Origin
from holdfast.snapshot.record import Fence, FileEntry, FileList, Snapshot
from holdfast.stop import NEVER, StopToken
from holdfast.store import Store

_CLAIMS_KEPT = 10
_FOREIGN_UPLOAD_AGE = 86400.0
"""Seconds after which an unfinished upload to a plain key, which anybody may have begun, is taken for abandoned."""


@dataclass(frozen=True, slots=True)
class Tidied:
    """What was deleted.

    Attributes:
        snapshots: names of the records.
        objects: keys of the objects beside them.
        uploads: how many unfinished uploads.
        refused: key → why an object cannot be deleted, where others can.
    """

    snapshots: tuple[str, ...] = ()
    objects: frozenset[str] = frozenset()
    uploads: int = 0
    refused: Mapping[str, PermanentStoreError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose snapshots a keeper looks after.

    Attributes:
        attempt: what earlier attempts stored and no snapshot names are orphans.
        slots: the names under which those commit whose snapshots they are; empty for a host that is alone.
        hosts: all hosts that commit side by side in this attempt; none where there is one.
        rest: whether also the snapshots of those are looked after who commit no longer.
    """

    attempt: int
    slots: frozenset[str]
    hosts: tuple[str, ...] = ()
    rest: bool = True

    def covers(self, slot: str) -> bool:
        """Say whether what was committed or stored under a name is looked after."""
        return slot in self.slots or (self.rest and slot not in self.hosts)

    @property
    def is_everything(self) -> bool:
        """Whether nobody else looks after anything."""
        return not self.hosts


class Expirer:
    """Keeps account of what the snapshots of a prefix need. Not safe for several threads.

    Args:
        store: where the prefix is.
        retention: which snapshots are kept.
        scope: whose snapshots are looked after.
        found: what was found under the prefix.
        passed_over: snapshots that could not be restored: they do not count as kept ones.
        protected: snapshots that stay whatever the policy says.
        needed: files that other hosts' snapshots have.
        plain: what lies at the plain keys.
        workers: runs the requests.
        clock: seconds since the epoch.
        resumable: returns the ids of the unfinished uploads with which this attempt may go on.
    """

    def __init__(
        self,
        store: Store,
        retention: Retention,
        scope: Scope,
        found: Catalog,
        *,
        passed_over: Collection[str] = (),
        protected: Collection[str] = (),
        needed: Iterable[FileEntry] = (),
        plain: PlainKeys,
        workers: Executor,
        clock: Callable[[], float],
        resumable: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self.waits = False
        """Whether something stays only because another host of the attempt has not yet said what it has."""
        self._store = store
        self._retention = retention
        self._scope = scope
        self._found: Catalog | None = found
        self._cache = found.cache
        self._passed_over = frozenset(passed_over)
        self._protected = frozenset(protected)
        self._plain = plain
        self._workers = workers
        self._clock = clock
        self._resumable = resumable
        self._commits: dict[str, float] = {}  # every snapshot that counts → since when its files are so, oldest first
        self._damaged: list[str] = []  # records that restore nothing; fences stay for ever: their zombies may be alive
        self._repeats: set[str] = set()  # those that only say once more what the record before them said
        self._steps: set[str] = set()  # those for which something was held back
        self._own: dict[str, Snapshot] = {}
        self._needs: Counter[str] = Counter(key for entry in needed for key in _needed(entry))
        self._at_plain_key: dict[tuple[str, str], FileEntry] = {}
        self._stored = set(found.survey().stored)
        self._belongs_to_another = found.survey().is_nested
        # What this attempt stores from now on may be named by its next snapshot, and is none of these.
        self._doomed = set(plain.ours(before=scope.attempt))
        self._swept = False

    def read(self) -> None:
        """Read the records that were found, once: before that nobody knows what is needed.

        Raises:
            StoreError: one cannot be read.
        """
        if self._found is None:
            return
        found = self._found
        every = [name for name in found.snapshots if name not in self._own]
        names = [name for name in every if self._scope.covers(keys.host_of(name))]
        commits: dict[str, float] = {}
        all_read = True
        for name, loaded in zip(names, self._workers.map(self._load, names), strict=True):
            all_read &= loaded is not None
            if isinstance(loaded, Snapshot):
                self._count(loaded)
            if isinstance(loaded, Snapshot) and name not in self._passed_over:
                commits[name] = began(loaded)
            elif not isinstance(loaded, Fence):
                self._damaged.append(name)
        self._commits = commits | self._commits
        if all_read:
            self._doomed.update(key for key in found.survey().stored if self._is_of_the_past(key))
        else:
            self._doomed.clear()  # what a record that does not hold needs is not known
        claims = {*((number, "") for number in found.attempts), *found.joined}
        self._doomed.update(
            keys.attempt_key(number, host)
            for number, host in claims
            if self._is_long_past(number) and self._scope.covers(host)
        )
        self._found = None

    def _load(self, name: str) -> Snapshot | Fence | None:
        try:
            return catalog.load_record(self._store, name, self._cache)
        except DamagedError:
            return None

    def _is_of_the_past(self, key: str) -> bool:
        stored_by = keys.attempt_of_content(key)
        if stored_by is None:
            return self._scope.is_everything  # whose snapshot it was preserved for is not known
        return stored_by[0] < self._scope.attempt and self._scope.covers(stored_by[1])

    def _is_long_past(self, attempt: int) -> bool:
        return attempt < self._scope.attempt - _CLAIMS_KEPT

    def add(self, snapshot: Snapshot) -> None:
        """Take a snapshot that this attempt has committed into account."""
        self._own[snapshot.name] = self._worth_holding(snapshot)
        self._commits[snapshot.name] = began(snapshot)
        self._count(snapshot)

    def _worth_holding(self, snapshot: Snapshot) -> Snapshot:
        """Return a snapshot with what will be wanted when it is dropped, and once in memory."""
        if self._retention.last is None:
            return replace(snapshot, files={}, lists=())
        return replace(snapshot, files={}) if snapshot.lists else snapshot

    def _count(self, snapshot: Snapshot) -> None:
        self._repeats |= {snapshot.name} if snapshot.since is not None else set()
        self._steps |= set() if snapshot.complete else {snapshot.name}
        listed = [file_list for file_list in snapshot.lists if self._needs[file_list.key] <= 0]
        self._needs.update(file_list.key for file_list in snapshot.lists)
        for entry in _entries(snapshot, listed):
            self._needs.update(_needed(entry))
            if entry.preserved is not None:
                self._at_plain_key[(entry.key, entry.etag)] = entry

    def needed_at(self, key: str, etag: str) -> FileEntry | None:
        """Return a file of a kept snapshot whose content is that object at a plain key; None when there is none."""
        return self._at_plain_key.get((key, etag))

    def doom(self, stored: Iterable[str]) -> None:
        """Let content go that this attempt has stored, as far as no snapshot needs it."""
        self._doomed.update(key for key in stored if self._needs[key] <= 0)

    def preserved(self, entry: FileEntry) -> None:
        """Note where the content of a plain key has been preserved."""
        self._stored.add(entry.key)

    def tidy(
        self,
        *,
        stop: StopToken = NEVER,
        dry_run: bool = False,
        going: Callable[[Collection[str]], None] = lambda keys_going: None,
    ) -> Tidied:
        """Delete the snapshots that are not kept, and what only they needed.

        Args:
            stop: ends it between two requests; what is left then is deleted the next time.
            dry_run: delete nothing, say what would be. The keeper is of no more use then.
            going: gets the keys of the objects before the first is deleted: whatever becomes of that, nobody may take
                them to be there from then on.

        Raises:
            StoreError: the store did not delete something; it is tried again the next time.
        """
        self.read()
        dropped = self._dropped()
        for number, name in enumerate(dropped):
            if stop.stopped():
                return Tidied(tuple(dropped[:number]))
            self._drop(name, dry_run=dry_run)
        gone, refused = self._delete_doomed(stop, going, dry_run=dry_run)
        uploads = 0
        if not self._swept and not stop.stopped():
            uploads = self._drop_uploads(dry_run=dry_run)
            self._swept = True
        return Tidied(tuple(dropped), frozenset(gone), uploads, refused)

    def _delete_doomed(
        self, stop: StopToken, going: Callable[[Collection[str]], None], *, dry_run: bool
    ) -> tuple[set[str], dict[str, PermanentStoreError]]:
        """Delete what may go, side by side; return what is gone, and what is refused for itself alone."""
        self._doomed = {key for key in self._doomed if self._may_go(key)}
        going(self._doomed)
        failed = threading.Event()
        refused: dict[str, PermanentStoreError] = {}

        def delete(key: str) -> bool:
            if failed.is_set() or stop.stopped():
                return False
            try:
                if not dry_run:
                    self._delete(key)
            except PermanentStoreError as error:
                if isinstance(error, AccessDeniedError | NoBucketError):
                    failed.set()
                    raise
                refused[key] = error
                return False
            except BaseException:
                failed.set()
                raise
            return True

        deletions = {key: self._workers.submit(delete, key) for key in sorted(self._doomed)}
        wait(deletions.values())
        gone = {key for key, deletion in deletions.items() if deletion.exception() is None and deletion.result()}
        self._doomed -= gone
        for deletion in deletions.values():
            deletion.result()
        return gone, refused

    def _dropped(self) -> list[str]:
        """Return the records that go: of snapshots that are not kept, and old ones that restore nothing."""
        own = {name: since for name, since in self._commits.items() if keys.host_of(name) in self._scope.slots}
        others = [name for name in self._commits if name not in own and name not in self._protected]
        long_past = [name for name in self._damaged if self._is_long_past(keys.commit_order(name)[0])]
        histories = [
            self._states({name: since for name, since in own.items() if keys.host_of(name) == slot})
            for slot in self._scope.slots
        ]
        kept: list[str] = []
        for states in histories:
            # The newest may all be steps: they push out no snapshot for which nothing was held back.
            for steps in (False, True):
                kept += self._retention.kept((n, t) for n, t in states.items() if (n in self._steps) is steps)
        dropped = [name for name in own if name not in {*kept, *self._protected}]
        if not dropped and not others:
            return long_past  # what the other hosts have said need not be asked: a request for each of them
        spoken = self._spoken_until()
        for states in histories:
            kept += [name for name in states if states[name] > spoken]
            # The newest before that is what the others' snapshots may belong to.
            kept += [name for name in states if states[name] <= spoken][-1:]
        self.waits = not {*dropped}.isdisjoint(kept)
        dropped = [name for name in dropped if name not in kept]
        if self._retention.last is not None and len(kept) >= self._retention.last and spoken > -math.inf:
            dropped += others
        return dropped + long_past

    def _states(self, commits: Mapping[str, float]) -> dict[str, float]:
        """Return the records that count.

        Not those after which the host only said once more that it has the same files, and not the steps of a flush and
        the like, once there is one behind them for which nothing was held back.
        """
        names = list(commits)
        said_again = {
            name for name, after in pairwise(names) if after in self._repeats and commits[name] == commits[after]
        }
        whole = [position for position, name in enumerate(names) if name not in self._steps]
        steps = {name for name in names[: whole[-1] if whole else 0] if name in self._steps}
        if self._retention.last is None:
            steps = set()
        return {name: commits[name] for name in names if name not in said_again | steps}

    def _spoken_until(self) -> float:
        """Return until when every host has said what it has, seconds since the epoch; infinity where one is alone."""
        if not self._scope.hosts:
            return math.inf
        listed = self._store.list(f"{keys.COMMITS}{self._scope.attempt:06d}-")
        names = sorted((catalog.name_in(info.key) for info in listed), key=keys.commit_order, reverse=True)
        spoken = self._workers.map(
            lambda host: self._spoke([name for name in names if keys.host_of(name) == host]), self._scope.hosts
        )
        return min(spoken) - SKEW

    def _spoke(self, names: Iterable[str]) -> float:
        """Return when a host last said that what it has stored is all it has."""
        for name in names:
            loaded = self._own.get(name) or self._load(name)
            if isinstance(loaded, Snapshot) and loaded.complete:
                return loaded.created.timestamp()
        return -math.inf

    def _drop(self, name: str, *, dry_run: bool) -> None:
        """Delete a record; what it needed may go when no other snapshot needs it."""
        snapshot = self._own.get(name) or self._load(name)
        if isinstance(snapshot, Snapshot):
            self._own[name] = snapshot  # when its deletion is not answered, it cannot be read again
        if not dry_run:
            self._store.delete(keys.snapshot_key(name))
        self._own.pop(name, None)
        self._commits.pop(name, None)
        self._repeats.discard(name)
        self._steps.discard(name)
        if name in self._damaged:
            self._damaged.remove(name)
        if isinstance(snapshot, Snapshot):
            listed = {file_list.key for file_list in snapshot.lists}
            self._needs.subtract(listed)
            self._doomed |= listed
            unneeded = [file_list for file_list in snapshot.lists if self._needs[file_list.key] <= 0]
            for entry in _entries(snapshot, unneeded):
                needed = _needed(entry)
                self._needs.subtract(needed)
                self._doomed |= needed
                if entry.preserved is not None and self._needs[entry.preserved] <= 0:
                    self._at_plain_key.pop((entry.key, entry.etag), None)

    def _may_go(self, key: str) -> bool:
        if self._needs[key] > 0:
            return False
        if key.startswith(keys.PRESERVED):
            return key in self._stored
        if key.startswith(f"{names.OWN_DIRECTORY}/"):
            return True
        origin = self._plain.origin(key)
        return origin is Origin.OURS or (origin is Origin.ADOPTED and self._retention.mirror)

    def _delete(self, key: str) -> None:
        if key.startswith(f"{names.OWN_DIRECTORY}/"):
            self._store.delete(key)
        else:
            self._plain.delete(key)

    def _drop_uploads(self, *, dry_run: bool) -> int:
        """Abort the uploads that nobody will complete; return how many."""
        count, resumable = 0, self._resumable()
        for unfinished in self._store.unfinished_uploads():
            if self._belongs_to_another(unfinished.upload.key) or unfinished.upload.id in resumable:
                continue
            stored_by = keys.attempt_of_content(unfinished.upload.key)
            old = self._clock() - unfinished.began > _FOREIGN_UPLOAD_AGE
            if self._is_of_the_past(unfinished.upload.key) if stored_by else old and self._scope.rest:
                count += 1
                if not dry_run:
                    self._store.abort_upload(unfinished.upload)
        return count


def _entries(snapshot: Snapshot, lists: Iterable[FileList]) -> Iterable[FileEntry]:
    """Return the files of a snapshot, as far as they are not in other lists than these."""
    if not snapshot.lists:
        return snapshot.files.values()
    return (entry for file_list in lists for entry in file_list.entries)


def _needed(entry: FileEntry) -> set[str]:
    """Return the keys that a snapshot's file needs: its content, and its plain key, which has the same or will."""
    return {entry.key, entry.path} | ({entry.preserved} if entry.preserved else set())
