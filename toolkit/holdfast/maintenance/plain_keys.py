"""The objects at plain keys, where SageMaker puts files: their origins, and the copies that replace them."""

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
"""The ETag of no object: a condition on it fails on every store that honours conditions."""


class PlainKeys:
    """The objects at the plain keys of a prefix, as far as one attempt knows. Not safe for several threads.

    Args:
        mine: the attempt; None for a command that only deletes.
        objects: result of `find_origins`.
    """

    def __init__(
        self, store: Store, mine: Attempt | None, objects: Mapping[str, PlainObject], workers: Executor
    ) -> None:
        self.conditional: bool | None = None
        """Whether the store honours the conditions of copies; None before the first copy."""
        self._store = store
        self._mine = mine
        self._owner = mine.owner if mine else ""
        self._objects = dict(objects)
        # Keys at which an object may have been put, replaced or deleted, without an answer → the object before.
        self._unsure: dict[str, PlainObject | None] = {}
        # A zombie may know these ETags, which follow from the content, and delete or replace on condition of them.
        self._found = {key: there.info.etag for key, there in objects.items()}
        self._workers = workers

    def is_free(self, key: str) -> bool:
        """Say whether no object is known at a key."""
        return key not in self._objects

    def origin(self, key: str) -> Origin | None:
        """Return the origin of the object at a key; None where there is no object."""
        found = self._objects.get(key)
        return found.origin if found else None

    def adopt(self, key: str) -> None:
        """Note that a foreign object was adopted: when the script changes the file, the object may be overwritten."""
        if key in self._objects:
            self._objects[key] = replace(self._objects[key], origin=Origin.ADOPTED)

    def meet(self, key: str) -> PlainObject | None:
        """Read the metadata of an unknown object at a key and return it; None where there is no object.

        An object of another attempt counts as foreign: records of that attempt may name it.
        """
        try:
            found = described(self._store.head(key), self._mine)
        except NotFoundError:
            self._objects.pop(key, None)
            return None
        if found.origin is Origin.OURS and (self._mine is None or found.attempt != self._mine.number):
            found = replace(found, origin=Origin.FOREIGN)
        self._objects[key] = found = replace(found, content=None)  # the content of an unanswered copy is not known
        return found

    def look_again(self) -> None:
        """Read the metadata at the keys of unanswered requests; after an error the next call continues."""
        for key in sorted(self._unsure):
            found, before = self.meet(key), self._unsure[key]
            if found is not None and before is not None and found.info.etag == before.info.etag:
                self._objects[key] = before
            del self._unsure[key]

    def etag(self, key: str) -> str | None:
        """Return the ETag of the object at a key; None where there is no object."""
        found = self._objects.get(key)
        return found.info.etag if found else None

    def note(self, key: str, size: int, etag: str | None) -> None:
        """Note that this attempt has put an object; with `etag` None: that an unknown object may be there."""
        if etag is None:
            self._unsure.setdefault(key, self._objects.get(key))
        info = ObjectInfo(key, size, etag or "", 0.0)
        self._objects[key] = PlainObject(info, Origin.FOREIGN if etag is None else Origin.OURS)

    def ours(self, *, before: int) -> list[str]:
        """Return the keys of our objects that an attempt before this number wrote."""
        return [key for key, found in self._objects.items() if found.origin is Origin.OURS and found.attempt < before]

    def delete(self, key: str) -> None:
        """Delete the known object at a key, but no other one. After an error `look_again` finds what is there."""
        known = self._objects[key]
        self.note(key, known.info.size, None)
        with contextlib.suppress(AlreadyExistsError):  # another writer has put its own object there
            self._store.delete(key, etag=known.info.etag)
        self._objects.pop(key, None)
        self._unsure.pop(key, None)

    def as_published(self, entry: FileEntry) -> FileEntry | None:
        """Return the entry with its plain key, where a copy of its content is there that no zombie replaces."""
        copied = self._objects.get(entry.path)
        if copied is None or not self.conditional or copied.content != _content_name(entry):
            return None
        if self._found.get(entry.path) == copied.info.etag:
            return None
        return replace(entry, key=entry.path, etag=copied.info.etag)

    def is_outdated(self, entry: FileEntry) -> bool:
        """Say whether the plain key of an entry lacks its content, and may get it."""
        found = self._objects.get(entry.path)
        if found is None:
            return True
        return found.origin in (Origin.OURS, Origin.ADOPTED) and found.content != _content_name(entry)

    def preserve(self, entry: FileEntry, *, stop: StopToken) -> FileEntry:
        """Copy content from its plain key to its preserved key; return the entry with that key.

        Raises:
            DamagedError, NotFoundError: the plain key has other content, or none: nothing is left to preserve.
            StoppedError: stopped.
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
        """Copy an outdated entry's content to its plain key in the store; return False where another object is there.

        After an error `look_again` finds what is there.

        Raises:
            StoppedError: stopped. The plain key is unchanged.
        """
        known = self._objects.get(entry.path)
        metadata = {keys.OWNER: self._owner, keys.CONTENT: _content_name(entry)}
        if known is not None and self.conditional is None:
            self.conditional = not self._copied(entry, metadata, Replaces(_NO_ETAG), stop)
        condition = Replaces(known.info.etag) if known else Absent()
        published = self._copied(entry, metadata, condition, stop)
        if not published:
            self.note(entry.path, 0, None)
        return published

    def _copied(self, entry: FileEntry, metadata: Metadata, condition: Condition, stop: StopToken) -> bool:
        """Copy to the plain key; return False where the condition does not hold."""
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


def _content_name(entry: FileEntry) -> str:
    return keys.content_name(entry.size, entry.crc64nvme)
