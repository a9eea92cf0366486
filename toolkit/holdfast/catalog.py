"""What lies under a prefix: attempts, snapshots and plain files, found with one listing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import PurePosixPath

from holdfast import names, record
from holdfast.errors import DamagedError, NotFoundError
from holdfast.record import Snapshot
from holdfast.store import ObjectInfo, Store

_ATTEMPT = re.compile("[0-9]{6}")


@dataclass(frozen=True, slots=True)
class Catalog:
    """The names under a prefix.

    Attributes:
        attempts: numbers of the attempts that were claimed, ascending.
        snapshots: names of the records, oldest first.
        plain: objects at plain keys, by key; SageMaker's markers are left out.
    """

    attempts: tuple[int, ...]
    snapshots: tuple[str, ...]
    plain: Mapping[str, ObjectInfo]


def read_catalog(store: Store) -> Catalog:
    """List the prefix once and sort out what is there.

    Raises:
        StoreError: the prefix cannot be listed.
    """
    attempts: list[int] = []
    snapshots: list[str] = []
    plain: dict[str, ObjectInfo] = {}
    for info in store.list(""):
        if info.key.startswith(record.ATTEMPTS):
            stem = info.key.removeprefix(record.ATTEMPTS).removesuffix(".json")
            if _ATTEMPT.fullmatch(stem):
                attempts.append(int(stem))
        elif info.key.startswith(record.SNAPSHOTS):
            stem = info.key.removeprefix(record.SNAPSHOTS).removesuffix(".json")
            if record.parse_name(stem):
                snapshots.append(stem)
        elif not info.key.startswith(record.OBJECTS) and not _is_marker(info):
            plain[info.key] = info
    return Catalog(tuple(sorted(attempts)), tuple(sorted(snapshots)), plain)


def _is_marker(info: ObjectInfo) -> bool:
    # "folder/" of no bytes is what the S3 console makes of a new folder; it is no file.
    return (info.key.endswith("/") and info.size == 0) or names.is_bookkeeping(PurePosixPath(info.key))


def load_snapshot(store: Store, name: str) -> Snapshot:
    """Read one record, and one that does not hold once more: it may have been damaged on the way only.

    Raises:
        DamagedError: there is no such record any more, or it does not hold.
        StoreError: it cannot be read.
    """
    try:
        return _read_snapshot(store, name)
    except NotFoundError as error:
        raise DamagedError(f"snapshot {name}: there is no such record") from error
    except DamagedError:
        return _read_snapshot(store, name)


def _read_snapshot(store: Store, name: str) -> Snapshot:
    pieces: list[bytes] = []
    store.read(record.snapshot_key(name), sink=lambda piece: pieces.append(bytes(piece)))
    return record.from_json(b"".join(pieces), name=name)


def newest_first(store: Store, catalog: Catalog) -> Iterator[Snapshot | DamagedError]:
    """Yield the snapshots, newest first; for a record that does not hold, the error instead of it."""
    for name in reversed(catalog.snapshots):
        try:
            yield load_snapshot(store, name)
        except DamagedError as error:
            yield error


def foreign_files(
    store: Store, catalog: Catalog, snapshot: Snapshot | None, workers: Executor
) -> dict[str, ObjectInfo]:
    """Return the plain objects that holdfast did not write, by key.

    What the snapshot names with the same ETag is ours, or was adopted before; anything else is asked for its metadata,
    one HEAD each.
    """
    named = {entry.key: entry.etag for entry in snapshot.files.values()} if snapshot else {}
    named |= snapshot.adopted if snapshot else {}
    unknown = [info for key, info in catalog.plain.items() if named.get(key) != info.etag]

    def is_foreign(info: ObjectInfo) -> bool:
        try:
            return record.OWNER not in (store.head(info.key).metadata or {})
        except NotFoundError:
            return False

    return {info.key: info for info, foreign in zip(unknown, workers.map(is_foreign, unknown), strict=True) if foreign}
