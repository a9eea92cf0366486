"""Delete what a plan says, in an order that leaves every record whole wherever it is cut off."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Executor, wait
from dataclasses import dataclass, field

from holdfast import names
from holdfast.errors import AccessDeniedError, NoBucketError, PermanentStoreError
from holdfast.maintenance.expire import Plan
from holdfast.maintenance.plain_keys import PlainKeys
from holdfast.maintenance.references import References
from holdfast.snapshot import keys
from holdfast.stop import NEVER, StopToken
from holdfast.store import Store


@dataclass(frozen=True, slots=True)
class Collected:
    """What was deleted.

    Attributes:
        snapshots: names of their records.
        objects: keys of the other objects.
        uploads: number of unfinished uploads.
        refused: key → error, of objects that the store refuses to delete while it deletes others.
    """

    snapshots: tuple[str, ...] = ()
    objects: frozenset[str] = frozenset()
    uploads: int = 0
    refused: Mapping[str, PermanentStoreError] = field(default_factory=dict)


class Collector:
    """Carry out plans. Not safe for several threads."""

    def __init__(self, store: Store, references: References, plain: PlainKeys, workers: Executor) -> None:
        self._store = store
        self._references = references
        self._plain = plain
        self._workers = workers

    def collect(
        self,
        plan: Plan,
        *,
        stop: StopToken = NEVER,
        on_delete: Callable[[Collection[str]], None] = lambda keys_going: None,
    ) -> Collected:
        """Delete records, then objects, then uploads.

        Args:
            plan: made since the last commit.
            stop: stops between two requests. What is left then, or after an error, is part of the next plan.
            on_delete: gets the keys of the objects before the first of them is deleted.
        """
        for number, name in enumerate(plan.records):
            if stop.stopped():
                return Collected(tuple(plan.records)[:number])
            self._references.hold(name)
            self._store.delete(keys.snapshot_key(name))
            self._references.forget(name)
        if plan.objects:
            on_delete(plan.objects.keys())
        gone, refused = self._delete_all(plan.objects, stop)
        uploads = () if stop.stopped() else plan.uploads
        for upload in uploads:
            self._store.abort_upload(upload)
        return Collected(tuple(plan.records), frozenset(gone), len(uploads), refused)

    def _delete_all(self, objects: Iterable[str], stop: StopToken) -> tuple[set[str], dict[str, PermanentStoreError]]:
        """Delete objects in parallel; return those that are gone, and those that are refused while others are not."""
        failed = threading.Event()
        refused: dict[str, PermanentStoreError] = {}

        def delete(key: str) -> bool:
            if failed.is_set() or stop.stopped():
                return False
            try:
                self._delete(key)
            except PermanentStoreError as error:
                if isinstance(error, AccessDeniedError | NoBucketError):
                    failed.set()
                    raise
                refused[key] = error
                return False
            except BaseException:
                failed.set()
                raise
            return True

        deletions = {key: self._workers.submit(delete, key) for key in sorted(objects)}
        wait(deletions.values())
        gone = {key for key, deletion in deletions.items() if deletion.exception() is None and deletion.result()}
        self._references.deleted(gone)
        for deletion in deletions.values():
            deletion.result()
        return gone, refused

    def _delete(self, key: str) -> None:
        if key.startswith(f"{names.OWN_DIRECTORY}/"):
            self._store.delete(key)
        else:
            self._plain.delete(key)
