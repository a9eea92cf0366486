"""Copy content to its plain keys: they follow the newest snapshot."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from holdfast.errors import AccessDeniedError, DamagedError, NoBucketError, NotFoundError, PermanentStoreError
from holdfast.maintenance.plain_keys import PlainKeys
from holdfast.maintenance.references import References
from holdfast.snapshot.record import FileEntry
from holdfast.stop import StopToken
from holdfast.transfer.content_index import ContentIndex

_LOG = logging.getLogger(__name__)


class Publisher:
    """Copy content to its plain keys. Not safe for several threads."""

    def __init__(self, plain: PlainKeys, references: References, known: ContentIndex) -> None:
        self._plain = plain
        self._references = references
        self._known = known
        self._warned: set[str] = set()

    def publish(self, entries: dict[str, FileEntry], stop: StopToken) -> None:
        """Give every plain key the content that the newest snapshot has for it.

        Args:
            entries: the files of the newest snapshot; changed to the keys at which their content is from now on.
            stop: stops between two requests; the next call continues.

        Raises:
            StoppedError: stopped.
        """
        self._references.read()
        self._plain.look_again()
        paths = [path for path, entry in entries.items() if entry.key != path]
        named: dict[tuple[str, str], list[str]] = {}
        for path, entry in entries.items() if paths else ():
            named.setdefault((entry.key, entry.etag), []).append(path)
        for path in paths:
            stop.refuse_if_stopped("bringing the plain keys up to date")
            if self._plain.is_outdated(entries[path]):
                try:
                    self._bring(path, entries, named, stop)
                except (AccessDeniedError, NoBucketError):
                    raise
                except PermanentStoreError as error:  # a name that the store refuses holds back no other
                    self.warn_once(f"{path!r} stays below .holdfast/ in the store: {error}")
            published = self._plain.as_published(entries[path])
            if published is not None:
                entries[path] = published
                self._known.add(published)

    def _bring(
        self,
        path: str,
        entries: dict[str, FileEntry],
        named: Mapping[tuple[str, str], list[str]],
        stop: StopToken,
    ) -> None:
        """Copy the content of a file to its plain key, after the object there has been preserved."""
        moved = self._make_room(path, stop)
        if moved is not None:
            needed, preserved = moved
            for other in named.get((needed.key, needed.etag), ()):  # renamed: the content was at its old name
                entries[other] = replace(entries[other], key=preserved.key, etag=preserved.etag)
        self._copy(entries[path], stop)

    def _make_room(self, key: str, stop: StopToken) -> tuple[FileEntry, FileEntry] | None:
        """Preserve the object at a plain key if a kept snapshot needs it; return the file, before and after."""
        etag = self._plain.etag(key)
        needed = self._references.needed_at(key, etag) if etag is not None else None
        self._known.gone([key])
        if needed is None:
            return None
        try:
            preserved = self._plain.preserve(needed, stop=stop)
        except (DamagedError, NotFoundError) as error:
            _LOG.warning(
                "older snapshots cannot be restored any more, another writer has overwritten what they need: %s", error
            )
            return None
        self._references.preserved.add(preserved.key)
        self._known.add(preserved)
        return needed, preserved

    def _copy(self, entry: FileEntry, stop: StopToken) -> None:
        try:
            if not self._plain.publish(entry, stop=stop):
                self.warn_once(f"{entry.path!r} stays below .holdfast/ in the store: another object is at its key")
        except (DamagedError, NotFoundError) as error:
            _LOG.warning(
                "the newest snapshot needs an object that another writer has overwritten or deleted: %s", error
            )

    def warn_once(self, text: str) -> None:
        """Log a sentence that every call would log, once."""
        if text not in self._warned:
            self._warned.add(text)
            _LOG.warning("%s", text)
