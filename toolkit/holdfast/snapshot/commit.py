"""Commit the snapshots of one attempt, until the fence of another attempt is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from holdfast.errors import AlreadyExistsError, SupersededError
from holdfast.snapshot import keys, record_json
from holdfast.snapshot.attempt import Attempt
from holdfast.snapshot.list_writer import ListWriter
from holdfast.snapshot.record import Fence, FileEntry, Snapshot
from holdfast.snapshot.records import exists, load_record
from holdfast.store import Absent, Part, Store


class Commits:
    """Commit the snapshots of one attempt and host. Not safe for several threads.

    Args:
        adopted: foreign objects that have been adopted, key → ETag.
        list_writer: stores the lists of large snapshots.
    """

    def __init__(
        self,
        store: Store,
        attempt: Attempt,
        adopted: Mapping[str, str],
        list_writer: ListWriter,
        clock: Callable[[], datetime],
    ) -> None:
        self.newest: Snapshot | None = None
        """The last committed snapshot; None before the first."""
        self._store = store
        self._attempt = attempt
        self._adopted = dict(adopted)
        self._list_writer = list_writer
        self._clock = clock
        self._unreported: list[Snapshot] = []  # whose commit another one, which then failed, has found

    def adopt(self, key: str, etag: str) -> None:
        """Name a foreign object as adopted, from the next record on."""
        self._adopted[key] = etag

    def commit(
        self, files: Mapping[str, FileEntry], *, complete: bool = True, repeated: bool = False, ended: bool = False
    ) -> list[Snapshot]:
        """Commit a snapshot of files.

        Args:
            files: by path.
            complete: whether they are all files of the host, with none held back (default True).
            repeated: whether they are those of the newest snapshot, and still all that the host has (default False).
            ended: whether nothing follows in this attempt (default False).

        Returns:
            The new snapshot, preceded by earlier ones whose commit is known only now, because an answer was lost.

        Raises:
            SupersededError: another attempt has fenced this one.
        """
        since = (self.newest.since or self.newest.created) if repeated and self.newest else None
        lists = self._list_writer.file(files, self._next_sequence, repeated=repeated)
        while True:
            snapshot = Snapshot(
                attempt=self._attempt.number,
                sequence=self._next_sequence,
                created=self._clock(),
                host=self._attempt.host,
                version=self._attempt.version,
                files=files,
                adopted=self._adopted,
                hosts=self._attempt.hosts,
                since=since,
                ended=ended,
                token=self._attempt.token,
                complete=complete,
                lists=lists,
                conditional=self._attempt.conditional,
            )
            try:
                self._put(snapshot)
            except AlreadyExistsError:
                self.newest = self._refuse_fence(snapshot.name)  # its own record: the answer was lost
                self._unreported.append(self.newest)
                continue
            self.newest = snapshot
            self._list_writer.committed(snapshot)
            known, self._unreported = [*self._unreported, snapshot], []
            return known

    def refuse_if_superseded(self) -> None:
        """Look for a fence, where no commit follows that would find it.

        Raises:
            SupersededError: there is one.
        """
        name = keys.snapshot_name(self._attempt.number, self._next_sequence, self._attempt.slot)
        if exists(self._store, keys.snapshot_key(name)):
            self._refuse_fence(name)

    def _put(self, snapshot: Snapshot) -> None:
        key, text = keys.snapshot_key(snapshot.name), record_json.to_json(snapshot)
        if not self._attempt.conditional and exists(self._store, key):
            raise AlreadyExistsError(snapshot.name)
        self._store.put(key, Part.of(text), metadata={keys.OWNER: self._attempt.owner}, condition=Absent())

    @property
    def _next_sequence(self) -> int:
        return self.newest.sequence + 1 if self.newest else 1

    def _refuse_fence(self, name: str) -> Snapshot:
        """Return the record at a name; raise SupersededError when it is a fence or another container's."""
        found = load_record(self._store, name)
        if isinstance(found, Fence):
            raise SupersededError(
                f"attempt {found.attempt} on {found.host} has taken over from this attempt, {self._attempt.number}: "
                "nothing more is stored from here"
            )
        if found.token != self._attempt.token:
            raise SupersededError(
                f"another container, on {found.host}, commits as attempt {found.attempt} too, as this store ignores "
                "conditional writes: nothing more is stored from here"
            )
        return found
