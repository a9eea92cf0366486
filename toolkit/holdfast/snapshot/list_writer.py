"""Filing: the files of a large snapshot become lists in the store, of which each commit writes those that changed."""

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
"""Files that a repeated record lists itself: it says once a minute what the one before it said."""


class ListWriter:
    """Puts the lists of one attempt and host, each once. Not safe for several threads.

    Args:
        store: where the prefix is.
        attempt: whose lists they are.
        workers: puts several at a time.
        known: those of the records from which the attempt goes on.
        most_inline: files that a record lists itself.
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
        """Keys of all lists that were put and have not been deleted since."""
        self._store = store
        self._attempt = attempt
        self._workers = workers
        self._most_inline = most_inline
        self._numbers = count(1)
        # Those of another host are his: he may delete them. By their first paths, which no two lists have in common.
        own = (it for it in known if (keys.attempt_of_content(it.key) or (0, None))[1] == attempt.slot)
        self._known = {it.entries[0].path: it for it in own}

    def file(self, files: Mapping[str, FileEntry], sequence: int, *, repeated: bool) -> tuple[FileList, ...]:
        """Make sure that the lists of a snapshot are in the store.

        Args:
            files: of the snapshot, by path.
            sequence: the number that it is to have.
            repeated: whether the record before has the same files.

        Returns:
            The lists; none where there are so few files that the record lists them itself.

        Raises:
            StoreError: one cannot be put. Those that were are not put again.
        """
        if len(files) <= min(self._most_inline, _MOST_REPEATED if repeated else self._most_inline):
            return ()
        pieces = list(file_lists.cut(files))
        new = [piece for piece in pieces if not self._has(piece)]
        puts = [self._workers.submit(self._put, piece, sequence, next(self._numbers)) for piece in new]
        wait(puts)
        for put in puts:
            if put.exception() is None:
                self._note(put.result())
        for put in puts:
            put.result()
        return tuple(self._known[piece[0].path] for piece in pieces)

    def _has(self, piece: tuple[FileEntry, ...]) -> bool:
        known = self._known.get(piece[0].path)
        return known is not None and known.entries == piece

    def _note(self, put: FileList) -> None:
        self._known[put.entries[0].path] = put
        self.sent.add(put.key)

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
        """Note what was committed: what it does not name may be deleted, and is not named again."""
        self._known = {it.entries[0].path: it for it in snapshot.lists}

    def gone(self, keys_gone: Iterable[str]) -> None:
        """Note that lists were deleted."""
        self.sent.difference_update(keys_gone)
