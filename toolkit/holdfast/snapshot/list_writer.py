"""Store the lists of large snapshots. Each commit writes only the lists that changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Executor, wait
from itertools import count

from holdfast.snapshot import file_lists, keys
from holdfast.snapshot.attempt import Attempt
from holdfast.snapshot.file_lists import MOST_INLINE
from holdfast.snapshot.record import FileEntry, FileList, Snapshot
from holdfast.store import Absent, Part, Store

_MOST_REPEATED = 50
"""Limit of files that a repeated record lists itself: it follows the record before it by a minute."""


class ListWriter:
    """Store the lists of one attempt and host, each once. Not safe for several threads.

    Args:
        known: lists of the records from which the attempt continues.
        most_inline: limit of files that a record lists itself (default 2,000).
    """

    def __init__(
        self,
        store: Store,
        attempt: Attempt,
        workers: Executor,
        *,
        known: Iterable[FileList] = (),
        most_inline: int = MOST_INLINE,
    ) -> None:
        self.sent: set[str] = set()
        """Keys of all lists that were stored and have not been deleted since."""
        self._store = store
        self._attempt = attempt
        self._workers = workers
        self._most_inline = most_inline
        self._numbers = count(1)
        # By first path, which no two lists share. Another host may delete its lists at any time.
        own = (listed for listed in known if (keys.attempt_of_content(listed.key) or (0, None))[1] == attempt.slot)
        self._known = {listed.entries[0].path: listed for listed in own}

    def file(self, files: Mapping[str, FileEntry], sequence: int, *, repeated: bool) -> tuple[FileList, ...]:
        """Store the lists of a snapshot that are not in the store yet. After an error, repeat only the failed ones.

        Args:
            files: of the snapshot, by path.
            repeated: whether the record before has the same files.

        Returns:
            The lists; none where the files are so few that the record lists them itself.
        """
        if len(files) <= min(self._most_inline, _MOST_REPEATED if repeated else self._most_inline):
            return ()
        lists = list(file_lists.cut(files))
        known = self._known
        new = [entries for entries in lists if (path := entries[0].path) not in known or known[path].entries != entries]
        puts = [self._workers.submit(self._put, entries, sequence, next(self._numbers)) for entries in new]
        wait(puts)
        for listed in (put.result() for put in puts if put.exception() is None):
            self._known[listed.entries[0].path] = listed
            self.sent.add(listed.key)
        for put in puts:
            put.result()
        return tuple(self._known[entries[0].path] for entries in lists)

    def _put(self, entries: tuple[FileEntry, ...], sequence: int, number: int) -> FileList:
        key = keys.list_key(self._attempt.number, sequence, self._attempt.slot, number)
        part = Part.of(file_lists.pack(entries))
        etag = self._store.put(key, part, metadata={keys.OWNER: self._attempt.owner}, condition=Absent())
        return FileList(
            key=key,
            etag=etag,
            size=part.size,
            crc64nvme=part.crc64nvme,
            count=len(entries),
            entries=entries,
        )

    def committed(self, snapshot: Snapshot) -> None:
        """Note a commit: lists that it does not name may be deleted, and are not named again."""
        self._known = {listed.entries[0].path: listed for listed in snapshot.lists}
