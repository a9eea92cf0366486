"""Find the origin of the objects at plain keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from enum import Enum, auto

from holdfast.errors import NotFoundError
from holdfast.snapshot import keys
from holdfast.snapshot.attempt import Attempt
from holdfast.snapshot.catalog import Catalog
from holdfast.snapshot.record import FileEntry
from holdfast.store import ObjectInfo, Store


class Origin(Enum):
    """What wrote an object at a plain key, which decides what may happen to it."""

    OURS = auto()  # holdfast on this host: overwritten and deleted when nothing needs it
    OTHER_HOST = auto()  # holdfast on another host of the prefix: left to that host
    ADOPTED = auto()  # another writer, and a snapshot has adopted it: overwritten, never deleted
    FOREIGN = auto()  # another writer: never touched


@dataclass(frozen=True, slots=True)
class PlainObject:
    """An object at a plain key.

    Attributes:
        content: `keys.content_name` of its content where that was copied there; None where it was uploaded there.
        attempt: number of the attempt that wrote it, where its metadata had to be read; 0 otherwise.
    """

    info: ObjectInfo
    origin: Origin
    content: str | None = None
    attempt: int = 0


def find_origins(
    store: Store,
    catalog: Catalog,
    own: Iterable[FileEntry],
    theirs: Iterable[FileEntry],
    adopted: Mapping[str, str],
    mine: Attempt | None,
    workers: Executor,
) -> dict[str, PlainObject]:
    """Return the objects at plain keys with their origins, by key.

    The origin of an object that the snapshot names with the same ETag is known, and so is that of an adopted one. For
    each other object, one HEAD reads its metadata.

    Args:
        own: the files of the newest snapshot with which this host continues.
        theirs: those of other hosts.
        adopted: foreign objects that were adopted before, key → ETag.
        mine: the attempt; None for that of a single host.
    """
    known = {(entry.key, entry.etag): Origin.OURS for entry in own}
    known |= {(entry.key, entry.etag): Origin.OTHER_HOST for entry in theirs}
    known |= dict.fromkeys(adopted.items(), Origin.ADOPTED)
    plain = catalog.objects().plain
    found = {key: PlainObject(info, known[key, info.etag]) for key, info in plain.items() if (key, info.etag) in known}
    others = [key for key in plain if key not in found]

    def ask(key: str) -> PlainObject | None:
        try:
            return described(store.head(key), mine)
        except NotFoundError:
            return None

    asked = zip(others, workers.map(ask, others), strict=True)
    return found | {key: answer for key, answer in asked if answer is not None}


def described(info: ObjectInfo, mine: Attempt | None) -> PlainObject:
    """Return an object at a plain key with its origin, read from its metadata."""
    metadata = info.metadata or {}
    owner = metadata.get(keys.OWNER)
    if owner is None:
        return PlainObject(info, Origin.FOREIGN)
    number, _, writer = owner.partition("@")
    origin = Origin.OTHER_HOST if mine is not None and mine.leaves(writer) else Origin.OURS
    return PlainObject(info, origin, metadata.get(keys.CONTENT), int(number) if number.isdecimal() else 0)
