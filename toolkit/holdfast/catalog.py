"""What lies under a prefix: attempts, snapshots and plain files, found with one listing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from holdfast import keys, names, record
from holdfast.errors import DamagedError, NotFoundError
from holdfast.record import Fence, Snapshot
from holdfast.store import ObjectInfo, Store


@dataclass(frozen=True, slots=True)
class Catalog:
    """What a listing found under a prefix.

    Attributes:
        attempts: numbers of the attempts that were claimed, ascending.
        joined: (attempt, host) for every host that has joined an attempt of several hosts.
        snapshots: names of the records, and of the fences among them, oldest first.
        plain: objects at plain keys, by key; without SageMaker's markers and what belongs to a prefix of its own
            below this one.
        nested: such prefixes, relative to this one, each with a slash at its end.
        records: the records and fences as objects, by name.
        stored: objects at content keys and preserved keys, by key.
    """

    attempts: tuple[int, ...]
    snapshots: tuple[str, ...]
    plain: Mapping[str, ObjectInfo]
    records: Mapping[str, ObjectInfo] = field(default_factory=dict)
    stored: Mapping[str, ObjectInfo] = field(default_factory=dict)
    joined: frozenset[tuple[int, str]] = frozenset()
    nested: frozenset[str] = frozenset()

    def is_nested(self, key: str) -> bool:
        """Say whether a key belongs to a prefix below this one, where another job keeps its own."""
        return any(key.startswith(prefix) for prefix in self.nested)

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
    """List the prefix once and sort out what is there.

    Raises:
        StoreError: the prefix cannot be listed.
    """
    claims: set[tuple[int, str]] = set()
    records: dict[str, ObjectInfo] = {}
    stored: dict[str, ObjectInfo] = {}
    plain: dict[str, ObjectInfo] = {}
    nested: set[str] = set()
    for info in store.list(""):
        if info.key.startswith(keys.ATTEMPTS):
            claim = keys.parse_attempt(info.key)
            if claim is not None:
                claims.add(claim)
        elif info.key.startswith(keys.SNAPSHOTS):
            name = name_in(info.key)
            if keys.parse_name(name):
                records[name] = info
        elif info.key.startswith((keys.OBJECTS, keys.PRESERVED)):
            stored[info.key] = info
        elif f"/{names.OWN_DIRECTORY}/" in info.key:
            nested.add(f"{info.key.partition(f'/{names.OWN_DIRECTORY}/')[0]}/")
        elif not _is_marker(info):
            plain[info.key] = info
    attempts = tuple(sorted({number for number, _ in claims}))
    joined = frozenset(claim for claim in claims if claim[1])
    if nested:
        plain = {key: info for key, info in plain.items() if not key.startswith(tuple(nested))}
    return Catalog(attempts, _in_order(records), plain, records, stored, joined, frozenset(nested))


def look_again(store: Store, found: Catalog) -> Catalog:
    """List the records and fences once more; everything else is as it was found.

    Raises:
        StoreError: they cannot be listed.
    """
    records = {name_in(info.key): info for info in store.list(keys.SNAPSHOTS) if keys.parse_name(name_in(info.key))}
    return replace(found, snapshots=_in_order(records), records=records)


def name_in(key: str) -> str:
    """Return the name of the record at a key."""
    return key.removeprefix(keys.SNAPSHOTS).removesuffix(".json")


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
