"""Keeping: which objects the kept snapshots need, and the deletion of those that none of them does.

Nothing is deleted here that a kept snapshot needs, that somebody else wrote, or that a live attempt may be about to
name: a snapshot's record goes first, then what only it needed; what an attempt stored and never named goes when a later
attempt exists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from dataclasses import dataclass

from holdfast import catalog, keys, names
from holdfast.catalog import Catalog
from holdfast.errors import DamagedError
from holdfast.plain import Origin, PlainKeys
from holdfast.record import Fence, FileEntry, Snapshot
from holdfast.retention import Retention
from holdfast.store import Store

_CLAIMS_KEPT = 10
_FOREIGN_UPLOAD_AGE = 86400.0
"""Seconds after which an unfinished upload to a plain key, which anybody may have begun, is taken for abandoned."""


@dataclass(frozen=True, slots=True)
class Tidied:
    """What was deleted.

    Attributes:
        snapshots: names of the records.
        objects: keys of the objects beside them.
        uploads: how many unfinished uploads.
    """

    snapshots: tuple[str, ...] = ()
    objects: frozenset[str] = frozenset()
    uploads: int = 0


class Keeper:
    """Keeps account of what the snapshots of a prefix need. Not safe for several threads.

    Args:
        store: where the prefix is.
        retention: which snapshots are kept.
        attempt: the number of the attempt that tidies; what earlier ones stored and no snapshot names are orphans.
        found: what was found under the prefix.
        passed_over: snapshots that could not be restored: they do not count as kept ones.
        protected: snapshots that stay whatever the policy says.
        plain: what lies at the plain keys.
        workers: runs the requests.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        retention: Retention,
        attempt: int,
        found: Catalog,
        *,
        passed_over: Collection[str] = (),
        protected: Collection[str] = (),
        plain: PlainKeys,
        workers: Executor,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._retention = retention
        self._attempt = attempt
        self._found: Catalog | None = found
        self._passed_over = frozenset(passed_over)
        self._protected = frozenset(protected)
        self._plain = plain
        self._workers = workers
        self._clock = clock
        self._commits: dict[str, float] = {}  # every snapshot that counts → when it was committed, oldest first
        self._spent: list[str] = []  # records that restore nothing: they go when they are older than what is kept
        self._own: dict[str, Snapshot] = {}
        self._needs: Counter[str] = Counter()
        self._at_plain_key: dict[tuple[str, str], FileEntry] = {}
        self._stored = set(found.stored)
        # What this attempt stores from now on may be named by its next snapshot, and is none of these.
        self._doomed = set(plain.ours(before=attempt))
        self._swept = False

    def read(self) -> None:
        """Read the records that were found, once: before that nobody knows what is needed.

        Raises:
            StoreError: one cannot be read.
        """
        if self._found is None:
            return
        found = self._found
        names = [name for name in found.snapshots if name not in self._own]
        commits: dict[str, float] = {}
        all_read = True
        for name, loaded in zip(names, self._workers.map(self._load, names), strict=True):
            all_read &= loaded is not None
            if isinstance(loaded, Snapshot):
                self._count(loaded)
            if isinstance(loaded, Snapshot) and name not in self._passed_over:
                commits[name] = loaded.created.timestamp()
            else:
                self._spent.append(name)
        self._commits = commits | self._commits
        if all_read:
            self._doomed.update(key for key in found.stored if self._is_of_the_past(key))
        else:
            self._doomed.clear()  # what a record that does not hold needs is not known
        self._doomed.update(keys.attempt_key(number) for number in found.attempts if self._is_long_past(number))
        self._found = None

    def _load(self, name: str) -> Snapshot | Fence | None:
        try:
            return catalog.load_record(self._store, name)
        except DamagedError:
            return None

    def _is_of_the_past(self, key: str) -> bool:
        stored_by = keys.attempt_of_content(key)
        return stored_by is None or stored_by[0] < self._attempt

    def _is_long_past(self, attempt: int) -> bool:
        return attempt < self._attempt - _CLAIMS_KEPT

    def add(self, snapshot: Snapshot) -> None:
        """Take a snapshot that this attempt has committed into account."""
        self._own[snapshot.name] = snapshot
        self._commits[snapshot.name] = snapshot.created.timestamp()
        self._count(snapshot)

    def _count(self, snapshot: Snapshot) -> None:
        for entry in snapshot.files.values():
            self._needs.update(_needed(entry))
            if entry.preserved is not None:
                self._at_plain_key[(entry.key, entry.etag)] = entry

    def needed_at(self, key: str, etag: str) -> FileEntry | None:
        """Return a file of a kept snapshot whose content is that object at a plain key; None when there is none."""
        return self._at_plain_key.get((key, etag))

    def preserved(self, entry: FileEntry) -> None:
        """Note where the content of a plain key has been preserved."""
        self._stored.add(entry.key)

    def tidy(self, *, should_stop: Callable[[], bool] = lambda: False, dry_run: bool = False) -> Tidied:
        """Delete the snapshots that are not kept, and what only they needed.

        Args:
            should_stop: asked between requests; what is left then is deleted the next time.
            dry_run: delete nothing, say what would be. The keeper is of no more use then.

        Raises:
            StoreError: something could not be deleted; it is tried again the next time.
        """
        self.read()
        dropped = self._dropped()
        for number, name in enumerate(dropped):
            if should_stop():
                return Tidied(tuple(dropped[:number]))
            self._drop(name, dry_run=dry_run)
        doomed = sorted(key for key in self._doomed if self._may_go(key))

        def delete(key: str) -> bool:
            if should_stop():
                return False
            if not dry_run:
                self._delete(key)
            return True

        gone = {key for key, deleted in zip(doomed, self._workers.map(delete, doomed), strict=True) if deleted}
        self._doomed = set(doomed) - gone
        uploads = self._drop_uploads(dry_run=dry_run) if not self._swept else 0
        self._swept = True
        return Tidied(tuple(dropped), frozenset(gone), uploads)

    def _dropped(self) -> list[str]:
        """Return the records that go: of snapshots that are not kept, and old ones that restore nothing."""
        kept = {*self._retention.kept(self._commits.items()), *self._protected}
        dropped = [name for name in self._commits if name not in kept]
        return dropped + [name for name in self._spent if self._is_long_past(int(name.partition("-")[0]))]

    def _drop(self, name: str, *, dry_run: bool) -> None:
        """Delete a record; what it needed may go when no other snapshot needs it."""
        snapshot = self._own.pop(name, None) or self._load(name)
        if not dry_run:
            self._store.delete(keys.snapshot_key(name))
        self._commits.pop(name, None)
        if name in self._spent:
            self._spent.remove(name)
        if isinstance(snapshot, Snapshot):
            for entry in snapshot.files.values():
                needed = _needed(entry)
                self._needs.subtract(needed)
                self._doomed |= needed
                if entry.preserved is not None and self._needs[entry.preserved] <= 0:
                    self._at_plain_key.pop((entry.key, entry.etag), None)

    def _may_go(self, key: str) -> bool:
        if self._needs[key] > 0:
            return False
        if key.startswith(keys.PRESERVED):
            return key in self._stored
        if key.startswith(f"{names.OWN_DIRECTORY}/"):
            return True
        origin = self._plain.origin(key)
        return origin is Origin.OURS or (origin is Origin.ADOPTED and self._retention.mirror)

    def _delete(self, key: str) -> None:
        if key.startswith(f"{names.OWN_DIRECTORY}/"):
            self._store.delete(key)
        else:
            self._plain.delete(key)

    def _drop_uploads(self, *, dry_run: bool) -> int:
        """Abort the uploads that nobody will complete; return how many."""
        count = 0
        for unfinished in self._store.unfinished_uploads():
            stored_by = keys.attempt_of_content(unfinished.upload.key)
            old = self._clock() - unfinished.began > _FOREIGN_UPLOAD_AGE
            if stored_by[0] < self._attempt if stored_by else old:
                count += 1
                if not dry_run:
                    self._store.abort_upload(unfinished.upload)
        return count


def _needed(entry: FileEntry) -> set[str]:
    """Return the keys that a snapshot's file needs: its content, and its plain key, which has the same or will."""
    return {entry.key, entry.path} | ({entry.preserved} if entry.preserved else set())
