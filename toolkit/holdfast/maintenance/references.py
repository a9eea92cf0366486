"""Count how many snapshots need each object, and find the objects that no snapshot needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import datetime

from holdfast.errors import DamagedError
from holdfast.maintenance.plain_keys import PlainKeys
from holdfast.snapshot import keys
from holdfast.snapshot.candidates import began
from holdfast.snapshot.catalog import Catalog
from holdfast.snapshot.record import Fence, FileEntry, FileList, Snapshot
from holdfast.snapshot.records import load_record
from holdfast.store import Store

_CLAIMS_KEPT = 10
_ORPHAN = "of an earlier attempt, in no snapshot"


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots (names under which hosts commit) whose snapshots one attempt expires.

    Attributes:
        attempt: number of the attempt.
        own: slots in use; the empty one for a host that is alone.
        hosts: all hosts of the attempt; none for a host that is alone.
        rest: whether slots of hosts that are not in the attempt are included.
    """

    attempt: int
    own: frozenset[str]
    hosts: tuple[str, ...] = ()
    rest: bool = True

    def covers(self, slot: str) -> bool:
        """Say whether a slot is included."""
        return slot in self.own or (self.rest and slot not in self.hosts)

    def has_left(self, key: str) -> bool:
        """Say whether an earlier attempt stored the object of a content key or list under one of the slots."""
        stored_by = keys.attempt_of_content(key)
        if stored_by is None:
            return not self.hosts  # it is not known for which host's snapshot it was preserved
        return stored_by[0] < self.attempt and self.covers(stored_by[1])

    def is_long_past(self, attempt: int) -> bool:
        """Say whether the claim of an attempt is no longer kept."""
        return attempt < self.attempt - _CLAIMS_KEPT


@dataclass(frozen=True, slots=True)
class Counted:
    """What retention needs to know of a snapshot that was counted.

    Attributes:
        began: when its files were first committed, seconds since the epoch.
        created: when it was committed.
        repeated: whether it repeats the record before it.
        complete: whether no file was held back.
    """

    began: float
    created: datetime
    repeated: bool
    complete: bool


class References:
    """Count how many snapshots need each object. Not safe for several threads.

    Args:
        slots: whose snapshots are counted.
        needed: files that snapshots of other hosts need.
        expires: whether snapshots expire at all. Those of this attempt stay in memory until then.
    """

    def __init__(
        self,
        store: Store,
        found: Catalog,
        slots: Slots,
        plain: PlainKeys,
        workers: Executor,
        *,
        needed: Iterable[FileEntry] = (),
        expires: bool = True,
    ) -> None:
        self.store = store
        self.slots = slots
        self.records: dict[str, Counted] = {}
        """Snapshots that were counted, oldest first."""
        self.unreadable: set[str] = set()
        """Names of damaged records. What they need is not known."""
        self.unneeded = dict.fromkeys(plain.ours(before=slots.attempt), _ORPHAN)
        """Keys that may be deleted if no snapshot needs them → reason."""
        self.preserved = {key for key in found.objects().stored if key.startswith(keys.PRESERVED)}
        """Preserved keys at which there is an object."""
        self.is_nested = found.objects().is_nested
        self._found: Catalog | None = found
        self._cache = found.cache
        self._workers = workers
        self._expires = expires
        self._counts: Counter[str] = Counter(key for entry in needed for key in _needed(entry))
        self._at_plain_key: dict[tuple[str, str], FileEntry] = {}
        self._held: dict[str, Snapshot] = {}

    def read(self) -> None:
        """Count the snapshots that were found, once. Before that it is not known what is needed."""
        if self._found is None:
            return
        found, slots = self._found, self.slots
        counted = self.records.keys() | self.unreadable
        names = [name for name in found.snapshots if name not in counted and slots.covers(keys.host_of(name))]
        for name, loaded in zip(names, self._workers.map(self.load, names), strict=True):
            if isinstance(loaded, Snapshot):
                self._count(loaded)
            elif loaded is None:
                self.unreadable.add(name)
        self.records = {name: self.records[name] for name in sorted(self.records, key=keys.commit_order)}
        if self.unreadable:
            self.unneeded.clear()
        else:
            self.release(filter(slots.has_left, found.objects().stored), _ORPHAN)
        claims = {*((number, "") for number in found.attempts), *found.joined}
        old = [claim for claim in claims if slots.is_long_past(claim[0]) and slots.covers(claim[1])]
        self.release((keys.attempt_key(*claim) for claim in old), "claim of an old attempt")
        self._found = None

    def load(self, name: str) -> Snapshot | Fence | None:
        """Read a record; None for a damaged one."""
        try:
            return load_record(self.store, name, self._cache)
        except DamagedError:
            return None

    def add(self, snapshot: Snapshot) -> None:
        """Count a snapshot that this attempt has committed."""
        self._count(snapshot)
        if not self._expires:
            snapshot = replace(snapshot, files={}, lists=())
        self._held[snapshot.name] = replace(snapshot, files={}) if snapshot.lists else snapshot

    def _count(self, snapshot: Snapshot) -> None:
        counted = Counted(began(snapshot), snapshot.created, snapshot.since is not None, snapshot.complete)
        self.records[snapshot.name] = counted
        new = [file_list for file_list in snapshot.lists if self._counts[file_list.key] <= 0]
        self._counts.update(file_list.key for file_list in snapshot.lists)
        for entry in _entries(snapshot, new):
            self._counts.update(_needed(entry))
            if entry.preserved is not None:
                self._at_plain_key[(entry.key, entry.etag)] = entry

    def count(self, key: str) -> int:
        """Return how often an object is needed."""
        return self._counts[key]

    def needed_at(self, key: str, etag: str) -> FileEntry | None:
        """Return a file of a counted snapshot whose content is that object at a plain key; None: there is none."""
        return self._at_plain_key.get((key, etag))

    def release(self, stored: Iterable[str], why: str) -> None:
        """Let those objects be deleted that no snapshot needs."""
        self.unneeded.update((key, why) for key in stored if self._counts[key] <= 0)

    def deleted(self, stored: Iterable[str]) -> None:
        """Note that objects were deleted."""
        for key in stored:
            self.unneeded.pop(key, None)

    def lost_with(self, names: Iterable[str]) -> Counter[str]:
        """Return by how much the counts fall when these snapshots are deleted in this order."""
        lost: Counter[str] = Counter()
        for name in names:
            snapshot = self._held.get(name) or self.load(name)
            if isinstance(snapshot, Snapshot):
                self._lose(snapshot, lost)
        return lost

    def _lose(self, snapshot: Snapshot, lost: Counter[str]) -> Sequence[FileEntry]:
        """Add by how much the counts fall without a snapshot; return the files that no other snapshot's lists have."""
        lost.update(file_list.key for file_list in snapshot.lists)
        last = [file_list for file_list in snapshot.lists if self._counts[file_list.key] <= lost[file_list.key]]
        entries = list(_entries(snapshot, last))
        for entry in entries:
            lost.update(_needed(entry))
        return entries

    def hold(self, name: str) -> None:
        """Keep a snapshot in memory until `forget`: when its deletion is not answered, it cannot be read again."""
        snapshot = self._held.get(name) or self.load(name)
        if isinstance(snapshot, Snapshot):
            self._held[name] = snapshot

    def forget(self, name: str) -> None:
        """Note that a record was deleted: what only it needed may be deleted too."""
        self.records.pop(name, None)
        self.unreadable.discard(name)
        snapshot = self._held.pop(name, None)
        if snapshot is None:
            return
        lost: Counter[str] = Counter()
        entries = self._lose(snapshot, lost)
        self._counts.subtract(lost)
        self.release(lost, "needed only by deleted snapshots")
        for entry in entries:
            if entry.preserved is not None and self._counts[entry.preserved] <= 0:
                self._at_plain_key.pop((entry.key, entry.etag), None)


def _entries(snapshot: Snapshot, lists: Iterable[FileList]) -> Iterable[FileEntry]:
    """Return the files of a snapshot; of one with lists, the files in these lists."""
    if not snapshot.lists:
        return snapshot.files.values()
    return (entry for file_list in lists for entry in file_list.entries)


def _needed(entry: FileEntry) -> set[str]:
    """Return the keys that a file of a snapshot needs: of its content, and its plain key, which gets that content."""
    return {entry.key, entry.path} | ({entry.preserved} if entry.preserved else set())
