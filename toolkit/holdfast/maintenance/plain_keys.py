"""Plain keys: what lies where SageMaker would lay it, who wrote it, and how it becomes what the newest snapshot has."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import replace

from holdfast.errors import AlreadyExistsError, NotFoundError
from holdfast.snapshot import keys
from holdfast.snapshot.attempt import Attempt
from holdfast.snapshot.ownership import Origin, PlainObject, described
from holdfast.snapshot.record import FileEntry
from holdfast.stop import StoppedError, StopToken
from holdfast.store import Absent, Condition, Metadata, ObjectInfo, Replaces, Store
from holdfast.transfer.parallel import Transfer
from holdfast.transfer.server_copy import copy_object

_NO_ETAG = '"holdfast"'
"""No object is called so: a condition on it fails on every store that looks at conditions."""


class PlainKeys:
    """The plain keys of a prefix, as one attempt knows them. Not safe for several threads.

    Args:
        store: where the prefix is.
        mine: the attempt that knows them; None where somebody only tidies.
        objects: what `find_origins` found.
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
            there = described(self._store.head(key), self._mine)
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

    def preserve(self, entry: FileEntry, *, stop: StopToken) -> FileEntry:
        """Copy what a kept snapshot needs from its plain key to its preserved key; return the entry as it lies there.

        Raises:
            DamagedError, NotFoundError: the plain key holds something else: there is nothing left to preserve.
            StoppedError, StoreError: as `publish`.
        """
        if entry.preserved is None:
            return entry
        try:
            transfer, metadata = Transfer(self._store, self._workers, stop), {keys.OWNER: self._owner}
            etag = copy_object(transfer, entry.content, entry.preserved, metadata=metadata, condition=Absent())
        except AlreadyExistsError:
            etag = self._store.head(entry.preserved).etag
        return replace(entry, key=entry.preserved, etag=etag)

    def publish(self, entry: FileEntry, *, stop: StopToken) -> bool:
        """Copy an entry's content to its plain key, server-side, unless something else is in the way; say whether.

        Args:
            entry: a file of the newest snapshot for which `is_outdated` says yes.
            stop: ends a large copy between two parts.

        Raises:
            StoppedError: stopped by `stop`. The plain key is as it was.
            StoreError: the store did not say that it has copied it; `look_again` finds out.
        """
        there = self._objects.get(entry.path)
        metadata = {keys.OWNER: self._owner, keys.CONTENT: keys.content_name(entry.size, entry.crc64nvme)}
        if there is not None and self.conditional is None:
            self.conditional = not self._copied(entry, metadata, Replaces(_NO_ETAG), stop)
        condition = Replaces(there.info.etag) if there else Absent()
        published = self._copied(entry, metadata, condition, stop)
        if not published:
            self.note(entry.path, 0, None)
        return published

    def _copied(self, entry: FileEntry, metadata: Metadata, condition: Condition, stop: StopToken) -> bool:
        """Copy to the plain key; return False when something else lies there than is to be replaced."""
        try:
            transfer = Transfer(self._store, self._workers, stop)
            etag = copy_object(transfer, entry.content, entry.path, metadata=metadata, condition=condition)
        except AlreadyExistsError:
            return False
        except StoppedError:
            raise
        except BaseException:
            self.note(entry.path, entry.size, None)
            raise
        info = ObjectInfo(entry.path, entry.size, etag, 0.0)
        self._objects[entry.path] = PlainObject(info, Origin.OURS, metadata[keys.CONTENT])
        return True
