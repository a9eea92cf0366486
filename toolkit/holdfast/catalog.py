"""What lies under a prefix: attempts, snapshots and plain files, found with one listing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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
        snapshots: names of the records, and of the fences among them, oldest first.
        plain: objects at plain keys, by key; SageMaker's markers are left out.
        records: the records and fences as objects, by name.
        stored: objects at content keys and preserved keys, by key.
    """

    attempts: tuple[int, ...]
    snapshots: tuple[str, ...]
    plain: Mapping[str, ObjectInfo]
    records: Mapping[str, ObjectInfo] = field(default_factory=dict)
    stored: Mapping[str, ObjectInfo] = field(default_factory=dict)


def read_catalog(store: Store) -> Catalog:
    """List the prefix once and sort out what is there.

    Raises:
        StoreError: the prefix cannot be listed.
    """
    attempts: set[int] = set()
    records: dict[str, ObjectInfo] = {}
    stored: dict[str, ObjectInfo] = {}
    plain: dict[str, ObjectInfo] = {}
    for info in store.list(""):
        if info.key.startswith(keys.ATTEMPTS):
            claim = keys.parse_attempt(info.key)
            if claim is not None:
                attempts.add(claim[0])
        elif info.key.startswith(keys.SNAPSHOTS):
            name = info.key.removeprefix(keys.SNAPSHOTS).removesuffix(".json")
            if keys.parse_name(name):
                records[name] = info
        elif info.key.startswith((keys.OBJECTS, keys.PRESERVED)):
            stored[info.key] = info
        elif not _is_marker(info):
            plain[info.key] = info
    snapshots = sorted(records, key=lambda name: keys.parse_name(name) or (0, 0, ""))
    return Catalog(tuple(sorted(attempts)), tuple(snapshots), plain, records, stored)


def _is_marker(info: ObjectInfo) -> bool:
    # "folder/" of no bytes is what the S3 console makes of a new folder; it is no file.
    return (info.key.endswith("/") and info.size == 0) or names.is_bookkeeping(PurePosixPath(info.key))


def load_record(store: Store, name: str) -> Snapshot | Fence:
    """Read what lies at a record's key.

    Raises:
        DamagedError: there is no such record any more, or it does not hold.
        StoreError: it cannot be read.
    """
    pieces: list[bytes] = []
    try:
        store.read(keys.snapshot_key(name), sink=lambda piece: pieces.append(bytes(piece)))
    except NotFoundError as error:
        raise DamagedError(f"snapshot {name}: there is no such record") from error
    return record.from_json(b"".join(pieces), name=name)


def newest_first(store: Store, catalog: Catalog) -> Iterator[Snapshot | DamagedError]:
    """Yield the snapshots, newest first; for a record that does not hold, the error instead of it."""
    for name in reversed(catalog.snapshots):
        try:
            found = load_record(store, name)
        except DamagedError as error:
            yield error
        else:
            if isinstance(found, Snapshot):
                yield found


def exists(store: Store, key: str) -> bool:
    """Say whether there is an object at a key."""
    try:
        store.head(key)
    except NotFoundError:
        return False
    return True
