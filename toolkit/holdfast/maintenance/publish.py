"""Tidying: what nobody waits for after a commit. Plain keys follow the newest snapshot, old snapshots are let go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from holdfast.errors import AccessDeniedError, DamagedError, NoBucketError, NotFoundError, PermanentStoreError
from holdfast.maintenance.expire import Expirer, Tidied
from holdfast.maintenance.plain_keys import PlainKeys
from holdfast.snapshot.list_writer import ListWriter
from holdfast.snapshot.record import FileEntry, Snapshot
from holdfast.stop import StoppedError, StopToken
from holdfast.transfer.content_index import ContentIndex

_LOG = logging.getLogger(__name__)


class Publisher:
    """Tidies a prefix for one attempt. Not safe for several threads.

    Args:
        plain: what lies at the plain keys.
        expirer: knows what kept snapshots need.
        known: which content lies where.
        list_writer: knows which lists it has put.
        refuse_if_superseded: raises SupersededError when another attempt has taken over.
        drop_unfinished: drops stale uploads, given the files of the newest snapshot.
    """

    def __init__(
        self,
        plain: PlainKeys,
        expirer: Expirer,
        known: ContentIndex,
        list_writer: ListWriter,
        *,
        refuse_if_superseded: Callable[[], None],
        drop_unfinished: Callable[[Mapping[str, FileEntry]], None],
    ) -> None:
        self._plain = plain
        self._expirer = expirer
        self._known = known
        self._drop_unfinished = drop_unfinished
        self._list_writer = list_writer
        self._refuse_if_superseded = refuse_if_superseded
        self._untidy = False
        self._warned: set[str] = set()

    def committed(self, snapshot: Snapshot) -> None:
        """Take a commit into account."""
        self._expirer.add(snapshot)
        if snapshot.complete:  # what was sent and is in no snapshot by now was changed while it was sent
            self._expirer.doom(self._known.sent)
        self._expirer.doom(self._list_writer.sent)  # those of a commit that failed
        # What a host says once a minute leaves but a small record behind, and to look what all others have said costs
        # a request for each of them: mostly that waits for the next snapshot.
        self._untidy |= snapshot.since is None or snapshot.ended or self._expirer.waits

    def tidy(self, entries: dict[str, FileEntry], stop: StopToken) -> Tidied:
        """Bring the plain keys up to date and delete what is no longer kept. Before the first commit: nothing.

        Args:
            entries: the files of the newest snapshot; changed to where their content lies from now on.
            stop: ends it between two requests; the next call goes on.

        Raises:
            StoreError: the store did not do something; the next call tries it again.
        """
        if not self._untidy:
            return Tidied()
        self._expirer.read()
        self._plain.look_again()
        try:
            self._publish(entries, stop)
        except StoppedError:
            return Tidied()
        self._refuse_if_superseded()  # a zombie that has slept since its commit deletes nothing
        self._drop_unfinished(entries)
        tidied = self._expirer.tidy(stop=stop, going=self._going)
        for key, error in tidied.refused.items():
            self._warn_once(f"{key!r} is no longer kept and cannot be deleted: {error}")
        self._untidy = stop.stopped()
        return tidied

    def _going(self, keys: Collection[str]) -> None:
        """Forget objects that are about to be deleted: an answer may get lost, and nothing may name them any more."""
        self._known.gone(keys)
        self._list_writer.gone(keys)

    def _publish(self, entries: dict[str, FileEntry], stop: StopToken) -> None:
        """Give every plain key the content that the newest snapshot has for it."""
        named: dict[tuple[str, str], list[str]] = {}
        for path, entry in entries.items():
            named.setdefault((entry.key, entry.etag), []).append(path)
        for path in [path for path, entry in entries.items() if entry.key != path]:
            stop.refuse_if_stopped("bringing the plain keys up to date")
            if self._plain.is_outdated(entries[path]):
                try:
                    self._bring(path, entries, named, stop)
                except (AccessDeniedError, NoBucketError):
                    raise
                except PermanentStoreError as error:  # a name that the store has no place for holds back no other
                    self._warn_once(f"{path!r} stays below .holdfast/ in the store: {error}")
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
        """Copy the content of a file to its plain key, after what lies there."""
        moved = self._make_room(path, stop)
        if moved is not None:
            needed, preserved = moved
            for other in named.get((needed.key, needed.etag), ()):  # renamed: it lay where its old name was
                entries[other] = replace(entries[other], key=preserved.key, etag=preserved.etag)
        self._copy(entries[path], stop)

    def _make_room(self, key: str, stop: StopToken) -> tuple[FileEntry, FileEntry] | None:
        """Preserve what lies at a plain key and is about to be overwritten, if a kept snapshot needs it.

        Returns the file that needs it, as it was named and as it is preserved.
        """
        etag = self._plain.etag(key)
        needed = self._expirer.needed_at(key, etag) if etag is not None else None
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
        self._expirer.preserved(preserved)
        self._known.add(preserved)
        return needed, preserved

    def _copy(self, entry: FileEntry, stop: StopToken) -> None:
        try:
            if not self._plain.publish(entry, stop=stop):
                self._warn_once(f"{entry.path!r} stays below .holdfast/ in the store: another object is at its key")
        except (DamagedError, NotFoundError) as error:
            _LOG.warning(
                "the newest snapshot needs an object that another writer has overwritten or deleted: %s", error
            )

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            _LOG.warning("%s", text)
