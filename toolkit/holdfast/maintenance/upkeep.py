"""Publish, expire and collect after a commit; no commit waits for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from holdfast.maintenance.collect import Collected, Collector
from holdfast.maintenance.expire import Expirer, Plan
from holdfast.maintenance.publish import Publisher
from holdfast.maintenance.references import References
from holdfast.snapshot.list_writer import ListWriter
from holdfast.snapshot.record import FileEntry, Snapshot
from holdfast.stop import StoppedError, StopToken
from holdfast.transfer.content_index import ContentIndex

_SENT = "of this attempt, in no snapshot"


class Upkeep:
    """Bring a prefix up to date after the commits of one attempt. Not safe for several threads.

    Args:
        known: content that the store has, and its keys.
        refuse_if_superseded: raises SupersededError when a later attempt has begun.
        drop_unfinished: drops stale uploads, given the files of the newest snapshot.
    """

    def __init__(
        self,
        references: References,
        publisher: Publisher,
        expirer: Expirer,
        collector: Collector,
        *,
        known: ContentIndex,
        list_writer: ListWriter,
        refuse_if_superseded: Callable[[], None],
        drop_unfinished: Callable[[Mapping[str, FileEntry]], None],
    ) -> None:
        self._references = references
        self._publisher = publisher
        self._expirer = expirer
        self._collector = collector
        self._known = known
        self._list_writer = list_writer
        self._refuse_if_superseded = refuse_if_superseded
        self._drop_unfinished = drop_unfinished
        self._due = False
        self._published = True
        self._swept = False

    def committed(self, snapshot: Snapshot) -> None:
        """Count a snapshot that this attempt has committed."""
        self._references.add(snapshot)
        if snapshot.complete:  # what was sent and is in no snapshot by now was changed while it was sent
            self._references.release(self._known.sent, _SENT)
        self._references.release(self._list_writer.sent, _SENT)  # those of a commit that failed
        # A repeated record leaves one small record behind: mostly that waits for the next snapshot.
        self._due |= snapshot.since is None or snapshot.ended or self._expirer.waits
        self._published &= snapshot.since is not None
        if snapshot.ended:
            self._expirer.plan_soon()

    def tidy(self, entries: dict[str, FileEntry], stop: StopToken) -> Collected:
        """Publish plain keys and delete what is no longer kept. Do nothing before the first commit.

        Args:
            entries: the files of the newest snapshot; changed to the keys at which their content is from now on.
            stop: stops between two requests; the next call continues.
        """
        if self._due and not (self._published and not self._expirer.is_time()):
            try:
                self._publisher.publish(entries, stop)
            except StoppedError:
                return Collected()
            self._published = True
        self._collector.collect(self._expirer.repeats(), stop=stop)
        if not self._due or not self._expirer.is_time():
            return Collected()
        self._refuse_if_superseded()  # a zombie that has slept since its commit deletes nothing
        self._drop_unfinished(entries)
        collected = self._collector.collect(self._expirer.plan(), stop=stop, on_delete=self._forget)
        for key, error in collected.refused.items():
            self._publisher.warn_once(f"{key!r} is no longer kept and cannot be deleted: {error}")
        if not self._swept and not stop.stopped():
            uploads = self._expirer.abandoned_uploads()
            self._collector.collect(Plan(uploads=uploads))
            collected = replace(collected, uploads=len(uploads))
            self._swept = True
        self._due = stop.stopped()
        return collected

    def _forget(self, keys: Collection[str]) -> None:
        """Forget objects that are about to be deleted: whatever the answer is, no record may name them from now on."""
        self._known.gone(keys)
        self._list_writer.sent.difference_update(keys)
