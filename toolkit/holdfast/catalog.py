"""What lies under a prefix, found with one listing that is read no further than somebody needs.

Attempts and records come first in the order of the keys, so a start knows them after the first page and can go on; the
rest of the same listing is read beside the restore.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from holdfast import keys, names, record
from holdfast.errors import DamagedError, NotFoundError
from holdfast.record import Fence, Snapshot
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
class Catalog:
    """The attempts and records under a prefix.

    Attributes:
        attempts: numbers of the attempts that were claimed, ascending.
        snapshots: names of the records, and of the fences among them, oldest first.
        rest: of the listing that found them.
        records: the records and fences as objects, by name.
        joined: (attempt, host) for every host that has joined an attempt of several hosts.
    """

    attempts: tuple[int, ...]
    snapshots: tuple[str, ...]
    rest: Rest = field(repr=False)
    records: Mapping[str, ObjectInfo] = field(default_factory=dict)
    joined: frozenset[tuple[int, str]] = frozenset()

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

    def records_of(self, slot: str) -> list[str]:
        """Return the names of the records and fences under a name, oldest first."""
        return [name for name in self.snapshots if keys.host_of(name) == slot]


def read_catalog(store: Store) -> Catalog:
    """List the prefix as far as its attempts and records go; `Catalog.survey` reads on.

    Raises:
        StoreError: the prefix cannot be listed.
    """
    claims: set[tuple[int, str]] = set()
    records: dict[str, ObjectInfo] = {}
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
                records[name] = info
        else:
            early.append(info)
            if info.key > keys.COMMITS:
                break
    attempts = tuple(sorted({number for number, _ in claims}))
    joined = frozenset(claim for claim in claims if claim[1])
    return Catalog(attempts, _in_order(records), Rest(early, listing), records, joined)


def look_again(store: Store, found: Catalog) -> Catalog:
    """List the records and fences once more; everything else is as it was found.

    Raises:
        StoreError: they cannot be listed.
    """
    records = {name_in(info.key): info for info in store.list(keys.COMMITS) if keys.parse_name(name_in(info.key))}
    return replace(found, snapshots=_in_order(records), records=records)


def name_in(key: str) -> str:
    """Return the name of the record at a key."""
    return key.removeprefix(keys.COMMITS).removesuffix(".json")


def _in_order(records: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(records, key=keys.commit_order))


def _is_marker(info: ObjectInfo) -> bool:
    # "folder/" of no bytes is what the S3 console makes of a new folder; it is no file.
    return (info.key.endswith("/") and info.size == 0) or names.is_bookkeeping(PurePosixPath(info.key))


def load_record(store: Store, name: str) -> Snapshot | Fence:
    """Read what lies at a record's key, and what does not hold once more: it may have been damaged on the way only.

    Raises:
        DamagedError: there is no such record any more, or it does not hold.
        StoreError: it cannot be read.
    """
    try:
        return _read_record(store, name)
    except NotFoundError as error:
        raise DamagedError(f"snapshot {name}: there is no such record") from error
    except DamagedError:
        return _read_record(store, name)


def _read_record(store: Store, name: str) -> Snapshot | Fence:
    pieces: list[bytes] = []
    store.read(keys.snapshot_key(name), sink=lambda piece: pieces.append(bytes(piece)))
    return record.from_json(b"".join(pieces), name=name)


def exists(store: Store, key: str) -> bool:
    """Say whether there is an object at a key."""
    try:
        store.head(key)
    except NotFoundError:
        return False
    return True
