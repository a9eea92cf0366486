"""Attempts, records and objects under a prefix, found with one listing that is read only as far as needed.

Attempts and records come first in the order of the keys, so a start knows them after the first page. The rest of the
same listing is read while the restore runs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import PurePosixPath

from holdfast import names
from holdfast.snapshot import keys
from holdfast.snapshot.records import RecordCache
from holdfast.store import ObjectInfo, Store


@dataclass(frozen=True, slots=True)
class ObjectListing:
    """The objects under a prefix, without attempts and records.

    Attributes:
        plain: objects at plain keys, by key; without SageMaker's markers and what belongs to a nested prefix.
        stored: lists of files and objects at content keys and preserved keys, by key.
        nested: prefixes of other jobs below this one, relative to it, each with a slash at its end.
    """

    plain: Mapping[str, ObjectInfo]
    stored: Mapping[str, ObjectInfo]
    nested: frozenset[str]

    def is_nested(self, key: str) -> bool:
        """Say whether a key belongs to the prefix of another job below this one."""
        return any(key.startswith(prefix) for prefix in self.nested)


class UnreadListing:
    """The part of a listing that has not been sorted yet. Safe for several threads: one reads, the others wait."""

    def __init__(self, infos: Iterable[ObjectInfo]) -> None:
        self._infos = infos
        self._lock = threading.Lock()
        self._read: Future[ObjectListing] = Future()

    def read(self) -> ObjectListing:
        """Read the listing to its end, the first time; where that failed, every later call raises the same error."""
        with self._lock:
            if not self._read.done():
                try:
                    self._read.set_result(self._sort())
                except Exception as error:  # noqa: BLE001  the next call must not take a partial listing for all of it
                    self._read.set_exception(error)
        return self._read.result()

    def _sort(self) -> ObjectListing:
        stored: dict[str, ObjectInfo] = {}
        plain: dict[str, ObjectInfo] = {}
        nested: set[str] = set()
        for info in self._infos:
            if info.key.startswith((keys.LISTS, keys.OBJECTS, keys.PRESERVED)):
                stored[info.key] = info
            elif f"/{names.OWN_DIRECTORY}/" in info.key:
                nested.add(f"{info.key.partition(f'/{names.OWN_DIRECTORY}/')[0]}/")
            elif not info.key.startswith((keys.ATTEMPTS, keys.COMMITS)) and not _is_marker(info):
                plain[info.key] = info
        if nested:
            plain = {key: info for key, info in plain.items() if not key.startswith(tuple(nested))}
        return ObjectListing(plain, stored, frozenset(nested))


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """The attempts and records under a prefix.

    Attributes:
        attempts: numbers of the attempts that were claimed, ascending.
        snapshots: names of the records, and of the fences among them, oldest first.
        unread: the rest of the listing that found them.
        joined: (attempt, host) for every host that has joined an attempt of several hosts.
        cache: what is known of the records beside their names.
    """

    attempts: tuple[int, ...]
    snapshots: tuple[str, ...]
    unread: UnreadListing = field(repr=False)
    joined: frozenset[tuple[int, str]] = frozenset()
    cache: RecordCache = field(default_factory=RecordCache, repr=False)

    def objects(self) -> ObjectListing:
        """Return the other objects under the prefix. The first call makes one request for each 1,000 objects."""
        return self.unread.read()

    def slots(self) -> set[str]:
        """Return the names under which records may be committed: of every host; empty where one host commits alone."""
        return {host for _, host in self.joined} | ({""} if self.lives("") else set())

    def lives(self, slot: str) -> list[int]:
        """Return the attempts in which records may be committed under a name, ascending."""
        joined = {number for number, host in self.joined if slot in ("", host)}
        return sorted(joined if slot else {*self.attempts} - joined)

    def histories(self) -> dict[str, list[str]]:
        """Return the names of the records and fences, oldest first, by the name under which they were committed."""
        found: dict[str, list[str]] = {}
        for name in self.snapshots:
            found.setdefault(keys.host_of(name), []).append(name)
        return found


def read_catalog(store: Store) -> Catalog:
    """List the prefix as far as its attempts and records go; `Catalog.objects` reads the rest."""
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
            name = keys.name_in(info.key)
            if keys.parse_name(name):
                etags[name] = info.etag
        else:
            early.append(info)
            if info.key > keys.COMMITS:
                break
    return Catalog(
        attempts=tuple(sorted({number for number, _ in claims})),
        snapshots=_in_order(etags),
        unread=UnreadListing(chain(early, listing)),
        joined=frozenset(claim for claim in claims if claim[1]),
        cache=RecordCache(etags),
    )


def refresh(store: Store, found: Catalog) -> Catalog:
    """List the records and fences once more; everything else is as it was found."""
    listed = {keys.name_in(info.key): info.etag for info in store.list(keys.COMMITS)}
    found.cache.etags.update(listed)
    return replace(found, snapshots=_in_order(name for name in listed if keys.parse_name(name)))


def _in_order(records: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(records, key=keys.commit_order))


def _is_marker(info: ObjectInfo) -> bool:
    # "folder/" of no bytes is what the S3 console makes of a new folder; it is no file.
    return (info.key.endswith("/") and info.size == 0) or names.is_bookkeeping(PurePosixPath(info.key))
