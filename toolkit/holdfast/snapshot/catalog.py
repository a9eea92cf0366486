"""What lies under a prefix, found with one listing that is read no further than somebody needs.

Attempts and records come first in the order of the keys, so a start knows them after the first page and can go on; the
rest of the same listing is read beside the restore.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from weakref import WeakValueDictionary

from holdfast import checksum, names
from holdfast.errors import DamagedError, NotFoundError
from holdfast.snapshot import file_lists as lists
from holdfast.snapshot import keys, record_json
from holdfast.snapshot.record import Fence, FileEntry, FileList, Snapshot
from holdfast.store import ObjectInfo, Store


@dataclass(frozen=True, slots=True)
class Survey:
    """What a listing found beside attempts and records.

    Attributes:
        plain: objects at plain keys, by key; without SageMaker's markers and what belongs to a prefix of its own
            below this one.
        nested: such prefixes, relative to this one, each with a slash at its end.
        stored: lists of files and objects at content keys and preserved keys, by key.
    """

    plain: Mapping[str, ObjectInfo]
    stored: Mapping[str, ObjectInfo]
    nested: frozenset[str]

    def is_nested(self, key: str) -> bool:
        """Say whether a key belongs to a prefix below this one, where another job keeps its own."""
        return any(key.startswith(prefix) for prefix in self.nested)


class Rest:
    """What of a listing has not been sorted out yet. Safe for several threads: one reads, the others wait.

    Args:
        early: what came before the attempts.
        late: what comes behind the records, read from the store as it is asked for.
    """

    def __init__(self, early: Iterable[ObjectInfo], late: Iterator[ObjectInfo]) -> None:
        self._early = early
        self._late = late
        self._lock = threading.Lock()
        self._read: Survey | Exception | None = None

    def read(self) -> Survey:
        """Read the listing to its end, the first time.

        Raises:
            StoreError: the prefix cannot be listed; then it raises this every time, and half a listing is none.
        """
        with self._lock:
            if self._read is None:
                try:
                    self._read = self._sort_out()
                except Exception as error:  # noqa: BLE001  half a listing must not be taken for a whole one the next time
                    self._read = error
        if isinstance(self._read, Exception):
            raise self._read
        return self._read

    def _sort_out(self) -> Survey:
        stored: dict[str, ObjectInfo] = {}
        plain: dict[str, ObjectInfo] = {}
        nested: set[str] = set()
        for infos in (self._early, self._late):
            for info in infos:
                if info.key.startswith((keys.LISTS, keys.OBJECTS, keys.PRESERVED)):
                    stored[info.key] = info
                elif f"/{names.OWN_DIRECTORY}/" in info.key:
                    nested.add(f"{info.key.partition(f'/{names.OWN_DIRECTORY}/')[0]}/")
                elif not info.key.startswith((keys.ATTEMPTS, keys.COMMITS)) and not _is_marker(info):
                    plain[info.key] = info
        if nested:
            plain = {key: info for key, info in plain.items() if not key.startswith(tuple(nested))}
        return Survey(plain, stored, frozenset(nested))


@dataclass(frozen=True, slots=True)
class Cache:
    """What is known of records before they are read, and of those that have been.

    Attributes:
        etags: of the records and fences that were listed, by name.
        lists: lists of files, by key, as long as a snapshot has them: snapshots that follow each other share most.
        records: what will be asked for once more, by name.
    """

    etags: dict[str, str] = field(default_factory=dict)
    lists: WeakValueDictionary[str, FileList] = field(default_factory=WeakValueDictionary)
    records: dict[str, Snapshot | Fence] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Catalog:
    """The attempts and records under a prefix.

    Attributes:
        attempts: numbers of the attempts that were claimed, ascending.
        snapshots: names of the records, and of the fences among them, oldest first.
        rest: of the listing that found them.
        joined: (attempt, host) for every host that has joined an attempt of several hosts.
        cache: what is known of the records beside their names.
    """

    attempts: tuple[int, ...]
    snapshots: tuple[str, ...]
    rest: Rest = field(repr=False)
    joined: frozenset[tuple[int, str]] = frozenset()
    cache: Cache = field(default_factory=Cache, repr=False)

    def survey(self) -> Survey:
        """Return what else lies under the prefix; the first time, that takes one request for each 1,000 objects.

        Raises:
            StoreError: the prefix cannot be listed.
        """
        return self.rest.read()

    def slots(self) -> set[str]:
        """Return the names under which records may be committed: of every host; empty where one host commits alone."""
        alone = set(self.attempts) - {number for number, _ in self.joined}
        return {host for _, host in self.joined} | ({""} if alone else set())

    def lives(self, slot: str) -> list[int]:
        """Return the attempts in which records may be committed under a name, ascending."""
        if slot:
            return sorted(number for number, host in self.joined if host == slot)
        return sorted(set(self.attempts) - {number for number, _ in self.joined})

    def histories(self) -> dict[str, list[str]]:
        """Return the names of the records and fences, oldest first, by the name under which they were committed."""
        found: dict[str, list[str]] = {}
        for name in self.snapshots:
            found.setdefault(keys.host_of(name), []).append(name)
        return found


def read_catalog(store: Store) -> Catalog:
    """List the prefix as far as its attempts and records go; `Catalog.survey` reads on.

    Raises:
        StoreError: the prefix cannot be listed.
    """
    claims: set[tuple[int, str]] = set()
    etags: dict[str, str] = {}
    early: list[ObjectInfo] = []
    listing = iter(store.list(""))
    for info in listing:
        if info.key.startswith(keys.ATTEMPTS):
            claim = keys.parse_attempt(info.key)
            if claim is not None:
                claims.add(claim)
        elif info.key.startswith(keys.COMMITS):
            name = name_in(info.key)
            if keys.parse_name(name):
                etags[name] = info.etag
        else:
            early.append(info)
            if info.key > keys.COMMITS:
                break
    attempts = tuple(sorted({number for number, _ in claims}))
    joined = frozenset(claim for claim in claims if claim[1])
    return Catalog(attempts, _in_order(etags), Rest(early, listing), joined, Cache(etags))


def look_again(store: Store, found: Catalog) -> Catalog:
    """List the records and fences once more; everything else is as it was found.

    Raises:
        StoreError: they cannot be listed.
    """
    listed = {name_in(info.key): info.etag for info in store.list(keys.COMMITS)}
    found.cache.etags.update(listed)
    return replace(found, snapshots=_in_order(name for name in listed if keys.parse_name(name)))


def name_in(key: str) -> str:
    """Return the name of the record at a key."""
    return key.removeprefix(keys.COMMITS).removesuffix(".json")


def _in_order(records: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(records, key=keys.commit_order))


def _is_marker(info: ObjectInfo) -> bool:
    # "folder/" of no bytes is what the S3 console makes of a new folder; it is no file.
    return (info.key.endswith("/") and info.size == 0) or names.is_bookkeeping(PurePosixPath(info.key))


def load_record(
    store: Store, name: str, cache: Cache | None = None, *, workers: Executor | None = None, again: bool = False
) -> Snapshot | Fence:
    """Read what lies at a record's key, and what does not hold once more: it may have been damaged on the way only.

    Args:
        store: where the prefix is.
        name: of the record.
        cache: what is known already.
        workers: reads the lists of a large snapshot side by side; not to be given in one of them.
        again: it will be asked for once more, and is kept until then.

    Raises:
        DamagedError: there is no such record any more, or it or one of its lists does not hold.
        StoreError: it cannot be read.
    """
    cache = cache or Cache()
    loaded = cache.records.pop(name, None)
    if loaded is None:
        try:
            try:
                loaded = _read_record(store, name, cache.etags.get(name), cache, workers)
            except DamagedError:
                loaded = _read_record(store, name, None, cache, workers)
        except NotFoundError as error:
            raise DamagedError(f"snapshot {name}: there is no such record") from error
    if again:
        cache.records[name] = loaded
    return loaded


def _read_record(store: Store, name: str, etag: str | None, cache: Cache, workers: Executor | None) -> Snapshot | Fence:
    pieces: list[bytes] = []
    store.read(keys.snapshot_key(name), etag=etag, sink=lambda piece: pieces.append(bytes(piece)))
    loaded = record_json.from_json(b"".join(pieces), name=name)
    if isinstance(loaded, Snapshot) and loaded.lists:
        return _with_lists(store, loaded, cache, workers)
    return loaded


def _with_lists(store: Store, snapshot: Snapshot, cache: Cache, workers: Executor | None) -> Snapshot:
    """Return a snapshot with the files that are in its lists."""

    def read(wanted: FileList) -> FileList:
        there = cache.lists.get(wanted.key)
        if there is not None and replace(there, entries=()) == wanted:
            return there
        cache.lists[wanted.key] = done = replace(wanted, entries=_read_list(store, wanted, snapshot.name))
        return done

    every = workers.map(read, snapshot.lists) if workers else map(read, snapshot.lists)
    return record_json.with_lists(snapshot, list(every))


def _read_list(store: Store, wanted: FileList, name: str) -> tuple[FileEntry, ...]:
    data = bytearray()

    def take(piece: memoryview) -> None:
        data.extend(piece)
        if len(data) > wanted.size:
            raise DamagedError(f"list {wanted.key} is longer than {wanted.size:,} bytes")

    try:
        store.read(wanted.key, etag=wanted.etag, sink=take)
    except (DamagedError, NotFoundError) as error:
        raise DamagedError(f"snapshot {name}: a list of its files is gone or another: {error}") from error
    if (len(data), checksum.crc64nvme(data)) != (wanted.size, wanted.crc64nvme):
        raise DamagedError(f"snapshot {name}: list {wanted.key} is not what the record says")
    return lists.unpack(bytes(data), key=wanted.key)


def exists(store: Store, key: str) -> bool:
    """Say whether there is an object at a key."""
    try:
        store.head(key)
    except NotFoundError:
        return False
    return True
