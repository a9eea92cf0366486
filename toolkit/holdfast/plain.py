"""Plain keys: what lies where SageMaker would lay it, who wrote it, and how it becomes what the newest snapshot has."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from enum import Enum, auto

from holdfast import keys, transfer
from holdfast.attempt import Attempt
from holdfast.catalog import Catalog
from holdfast.errors import AlreadyExistsError, NotFoundError
from holdfast.record import FileEntry
from holdfast.store import ObjectInfo, Store

_NO_ETAG = '"holdfast"'
"""No object is called so: a condition on it fails on every store that looks at conditions."""


class Origin(Enum):
    """Who wrote an object at a plain key, and so what may happen to it."""

    OURS = auto()  # this host's holdfast: overwritten and deleted when nothing needs it
    OTHER_HOST = auto()  # holdfast on another host of the same prefix: that host's business
    ADOPTED = auto()  # somebody else, and a snapshot has taken it in: overwritten, never deleted
    FOREIGN = auto()  # somebody else: never touched


@dataclass(frozen=True, slots=True)
class PlainObject:
    """An object at a plain key.

    Attributes:
        info: as the listing has it.
        origin: who wrote it.
        content: `keys.content_name` of what was copied there; None when the content came there first.
        attempt: the number of the attempt that wrote it, where that had to be asked; 0 otherwise.
    """

    info: ObjectInfo
    origin: Origin
    content: str | None = None
    attempt: int = 0


def survey(
    store: Store,
    catalog: Catalog,
    own: Iterable[FileEntry],
    theirs: Iterable[FileEntry],
    adopted: Mapping[str, str],
    mine: Attempt | None,
    workers: Executor,
) -> dict[str, PlainObject]:
    """Find out who wrote the objects at plain keys.

    What the snapshot names with the same ETag is known, and so is what was adopted before; anything else is asked for
    its metadata, one HEAD each.

    Args:
        store: where the prefix is.
        catalog: what was found there.
        own: the files of the newest snapshot with which this host goes on.
        theirs: those of other hosts.
        adopted: what was adopted before, key → ETag.
        mine: the attempt that asks; None is one of a host that is alone.
        workers: runs the requests.
    """
    of_others = {entry.key: entry.etag for entry in theirs}
    named = {entry.key: entry.etag for entry in own}

    found: dict[str, PlainObject] = {}
    others: list[str] = []
    for key, info in catalog.survey().plain.items():
        if adopted.get(key) == info.etag:
            found[key] = PlainObject(info, Origin.ADOPTED)
        elif of_others.get(key) == info.etag:
            found[key] = PlainObject(info, Origin.OTHER_HOST)
        elif named.get(key) == info.etag:
            found[key] = PlainObject(info, Origin.OURS)
        else:
            others.append(key)

    def ask(key: str) -> PlainObject | None:
        try:
            return _described(store.head(key), mine)
        except NotFoundError:
            return None

    asked = zip(others, workers.map(ask, others), strict=True)
    return found | {key: there for key, there in asked if there is not None}


def _described(info: ObjectInfo, mine: Attempt | None) -> PlainObject:
    metadata = info.metadata or {}
    owner = metadata.get(keys.OWNER)
    if owner is None:
        return PlainObject(info, Origin.FOREIGN)
    number, _, writer = owner.partition("@")
    others = mine is not None and writer != mine.slot and (writer in mine.hosts or not mine.leads)
    origin = Origin.OTHER_HOST if others else Origin.OURS
    return PlainObject(info, origin, metadata.get(keys.CONTENT), int(number) if number.isdecimal() else 0)


class PlainKeys:
    """The plain keys of a prefix, as one attempt knows them. Not safe for several threads.

    Args:
        store: where the prefix is.
        mine: the attempt that knows them; None where somebody only tidies.
        objects: what `survey` found.
        workers: runs the parts of large copies.
    """

    def __init__(
        self, store: Store, mine: Attempt | None, objects: Mapping[str, PlainObject], workers: Executor
    ) -> None:
        self.conditional: bool | None = None
        """Whether the store looks at the conditions of a copy; None until one was made."""
        self._store = store
        self._mine = mine
        self._owner = mine.owner if mine else ""
        self._objects = dict(objects)
        # Where something may have been put, replaced or deleted, and no answer said so → what lay there before.
        self._unsure: dict[str, PlainObject | None] = {}
        # A zombie may know these by ETag, which is that of the content, and delete or replace them on that condition.
        self._found = {key: there.info.etag for key, there in objects.items()}
        self._workers = workers

    def is_free(self, key: str) -> bool:
        """Say whether, as far as is known, nothing lies at a key."""
        return key not in self._objects

    def origin(self, key: str) -> Origin | None:
        """Return who wrote what lies at a key; None when nothing does."""
        there = self._objects.get(key)
        return there.origin if there else None

    def adopt(self, key: str) -> None:
        """Note that a foreign object has been taken in: what the script makes of the file may go over it."""
        if key in self._objects:
            self._objects[key] = replace(self._objects[key], origin=Origin.ADOPTED)

    def meet(self, key: str) -> PlainObject | None:
        """Look what lies at a key, where that is not known; None when nothing does.

        What another attempt has written there is not touched: its records may name it.
        """
        try:
            there = _described(self._store.head(key), self._mine)
        except NotFoundError:
            self._objects.pop(key, None)
            return None
        if there.origin is Origin.OURS and (self._mine is None or there.attempt != self._mine.number):
            there = replace(there, origin=Origin.FOREIGN)
        self._objects[key] = there = replace(there, content=None)  # what a copy without an answer has is not known
        return there

    def look_again(self) -> None:
        """Look at the keys of which no answer said what lies there now.

        Raises:
            StoreError: one cannot be looked at; it is tried again the next time.
        """
        for key in sorted(self._unsure):
            there, before = self.meet(key), self._unsure[key]
            if there is not None and before is not None and there.info.etag == before.info.etag:
                self._objects[key] = before
            del self._unsure[key]

    def etag(self, key: str) -> str | None:
        """Return the ETag of what lies at a key; None when nothing does."""
        there = self._objects.get(key)
        return there.info.etag if there else None

    def note(self, key: str, size: int, etag: str | None) -> None:
        """Note that we have put an object there; without an ETag: that something lies there that is not known."""
        if etag is None:
            self._unsure.setdefault(key, self._objects.get(key))
        info = ObjectInfo(key, size, etag or "", 0.0)
        self._objects[key] = PlainObject(info, Origin.FOREIGN if etag is None else Origin.OURS)

    def ours(self, *, before: int) -> list[str]:
        """Return the keys of all objects that are ours and were written by an attempt before the given one."""
        return [key for key, it in self._objects.items() if it.origin is Origin.OURS and it.attempt < before]

    def delete(self, key: str) -> None:
        """Delete what lies at a key, unless it is no longer what we know.

        Raises:
            StoreError: the store did not say that it is gone; `look_again` finds out.
        """
        there = self._objects[key]
        self.note(key, there.info.size, None)
        with contextlib.suppress(AlreadyExistsError):  # somebody has put something else there: it is his
            self._store.delete(key, etag=there.info.etag)
        self._objects.pop(key, None)
        self._unsure.pop(key, None)

    def as_published(self, entry: FileEntry) -> FileEntry | None:
        """Return the entry as a record may name it at its plain key, when its content has been copied there."""
        there = self._objects.get(entry.path)
        if there is None or not self.conditional:  # a zombie's late copy might replace it
            return None
        if there.content != keys.content_name(entry.size, entry.crc64nvme):
            return None
        if self._found.get(entry.path) == there.info.etag:
            return None
        return replace(entry, key=entry.path, etag=there.info.etag)

    def is_outdated(self, entry: FileEntry) -> bool:
        """Say whether the plain key of an entry should get the entry's content, and may."""
        there = self._objects.get(entry.path)
        if there is None:
            return True
        return there.origin in (Origin.OURS, Origin.ADOPTED) and there.content != keys.content_name(
            entry.size, entry.crc64nvme
        )

    def preserve(self, entry: FileEntry, *, should_stop: Callable[[], bool]) -> FileEntry:
        """Copy what a kept snapshot needs from its plain key to its preserved key; return the entry as it lies there.

        Raises:
            DamagedError, NotFoundError: the plain key holds something else: there is nothing left to preserve.
            StoppedError, StoreError: as `publish`.
        """
        if entry.preserved is None:
            return entry
        try:
            etag = self._copy(entry, entry.preserved, {keys.OWNER: self._owner}, None, should_stop)
        except AlreadyExistsError:
            etag = self._store.head(entry.preserved).etag
        return replace(entry, key=entry.preserved, etag=etag)

    def publish(self, entry: FileEntry, *, should_stop: Callable[[], bool]) -> bool:
        """Copy an entry's content to its plain key, server-side, unless something else is in the way; say whether.

        Args:
            entry: a file of the newest snapshot for which `is_outdated` says yes.
            should_stop: asked between the parts of a large copy.

        Raises:
            StoppedError: `should_stop` said yes. The plain key is as it was.
            StoreError: the store did not say that it has copied it; `look_again` finds out.
        """
        there = self._objects.get(entry.path)
        metadata = {keys.OWNER: self._owner, keys.CONTENT: keys.content_name(entry.size, entry.crc64nvme)}
        if there is not None and self.conditional is None:
            self.conditional = not self._copied(entry, metadata, _NO_ETAG, should_stop)
        published = self._copied(entry, metadata, there.info.etag if there else None, should_stop)
        if not published:
            self.note(entry.path, 0, None)
        return published

    def _copied(
        self, entry: FileEntry, metadata: Mapping[str, str], replaces: str | None, should_stop: Callable[[], bool]
    ) -> bool:
        """Copy to the plain key; return False when something else lies there than is to be replaced."""
        try:
            etag = self._copy(entry, entry.path, metadata, replaces, should_stop)
        except AlreadyExistsError:
            return False
        except transfer.StoppedError:
            raise
        except BaseException:
            self.note(entry.path, entry.size, None)
            raise
        info = ObjectInfo(entry.path, entry.size, etag, 0.0)
        self._objects[entry.path] = PlainObject(info, Origin.OURS, metadata[keys.CONTENT])
        return True

    def _copy(
        self,
        entry: FileEntry,
        key: str,
        metadata: Mapping[str, str],
        replaces: str | None,
        should_stop: Callable[[], bool],
    ) -> str:
        return transfer.copy_object(
            self._store,
            entry.key,
            key,
            etag=entry.etag,
            size=entry.size,
            crc64nvme=entry.crc64nvme,
            metadata=metadata,
            only_if_absent=replaces is None,
            replaces=replaces,
            workers=self._workers,
            should_stop=should_stop,
        )
