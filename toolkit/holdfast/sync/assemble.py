"""Assemble a syncer from its parts."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from holdfast.local import scan
from holdfast.local.unsent import Unsent
from holdfast.maintenance.collect import Collector
from holdfast.maintenance.expire import Expirer
from holdfast.maintenance.plain_keys import PlainKeys
from holdfast.maintenance.publish import Publisher
from holdfast.maintenance.references import References, Slots
from holdfast.maintenance.reported import Reported
from holdfast.maintenance.retention import Retention
from holdfast.maintenance.upkeep import Upkeep
from holdfast.restore.base import Base
from holdfast.restore.deferred import Deferred
from holdfast.snapshot import keys
from holdfast.snapshot.attempt import Attempt
from holdfast.snapshot.commit import Commits
from holdfast.snapshot.file_lists import MOST_INLINE
from holdfast.snapshot.list_writer import ListWriter
from holdfast.store import Store
from holdfast.sync.changes import Changes
from holdfast.sync.file_upload import FileUploader
from holdfast.sync.outbox import Outbox
from holdfast.sync.syncer import Syncer
from holdfast.transfer.content_index import ContentIndex
from holdfast.transfer.resumable import ResumableUploads
from holdfast.workers.bandwidth import Bandwidth


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What all parts of a syncer work with.

    Attributes:
        drivers: threads that wait for the parts of a large file, so that those of the next one travel while it is
            completed; None: one file is completed before the next begins. Never the threads that run the transfers.
        prefix_bytes: bytes that the prefix and its slash take of a key's 1,024.
    """

    store: Store
    workers: Executor
    clock: Callable[[], datetime]
    drivers: Executor | None = None
    bandwidth: Bandwidth | None = None
    prefix_bytes: int = 0


def assemble(
    engine: Engine,
    directory: Path,
    attempt: Attempt,
    base: Base,
    *,
    retention: Retention | None = None,
    unsent: Unsent | None = None,
    only: str | None = None,
    most_inline: int = MOST_INLINE,
) -> Syncer:
    """Return the syncer of one checkpoint directory.

    Args:
        retention: which snapshots are kept (default: the last three).
        unsent: note of finished checkpoints that are not stored yet; None: nothing is noted.
        only: name of the one checkpoint that is stored; None: all.
        most_inline: files that a record lists itself.
    """
    store, workers = engine.store, engine.workers
    bandwidth = engine.bandwidth or Bandwidth(time.monotonic)
    retention = retention or Retention()
    entries = {path: base.located(entry) for path, entry in base.files.items()}
    deferred, uploads = Deferred(base.deferred), ResumableUploads(directory, attempt.slot)
    plain, known = PlainKeys(store, attempt, base.plain, workers), ContentIndex(entries.values())
    uploader = FileUploader(
        store=store,
        directory=directory,
        attempt=attempt,
        plain=plain,
        known=known,
        uploads=uploads,
        progress=bandwidth.count,
    )
    references = References(
        store,
        base.found,
        Slots(attempt.number, frozenset({attempt.slot}), attempt.hosts, rest=attempt.leads),
        plain,
        workers,
        needed=base.theirs.values(),
        expires=retention.last is not None,
    )
    expirer = Expirer(
        references,
        retention,
        plain,
        lambda: engine.clock().timestamp(),
        reported=Reported(store, attempt, references, workers).until,
        passed_over=base.passed_over,
        # Until all hosts have something newer in common, this is what they would go back to.
        protected=base.names if attempt.hosts else (),
        resumable=uploads.ids,
    )
    list_writer = ListWriter(store, attempt, workers, known=base.lists, most_inline=most_inline)
    commits = Commits(store, attempt, base.adopted, list_writer, engine.clock)
    upkeep = Upkeep(
        references,
        Publisher(plain, references, known),
        expirer,
        Collector(store, references, plain, workers),
        known=known,
        list_writer=list_writer,
        refuse_if_superseded=commits.refuse_if_superseded,
        drop_unfinished=partial(uploads.drop_stale, store),
    )
    look = partial(scan.scan, directory, room_for_prefix=engine.prefix_bytes + keys.room(attempt.slot), only=only)
    files = look().files if entries or base.theirs else {}  # without entries nothing is compared
    files = {path: state for path, state in files.items() if path not in base.unsent}
    return Syncer(
        directory=directory,
        attempt=attempt,
        bandwidth=bandwidth,
        deferred=deferred,
        look=look,
        plain=plain,
        known=known,
        outbox=Outbox(uploader, workers, engine.drivers),
        commits=commits,
        changes=Changes(entries, base.theirs, files, deferred),
        upkeep=upkeep,
        unsent=None if attempt.hosts else unsent,
        unadopted=dict(base.unadopted),
        base_name=base.names[-1] if base.names else "",
    )
