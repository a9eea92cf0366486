"""Before the script exists: look at the store, claim the attempt, restore."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import holdfast
from holdfast import attempt, catalog, restore
from holdfast.attempt import Attempt
from holdfast.location import Location
from holdfast.restore import Restored
from holdfast.script import latest
from holdfast.store import Store
from holdfast.sync import Syncer
from holdfast_entrypoint.config import Config


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is ready when the script may start.

    Attributes:
        attempt: the claimed attempt.
        restored: what came from the store.
        syncer: keeps the prefix up to date from here on.
        resume: the newest complete checkpoint; None on a fresh start.
    """

    attempt: Attempt
    restored: Restored
    syncer: Syncer
    resume: Path | None


def prepare(
    config: Config,
    place: Location,
    store: Store,
    *,
    workers: Executor,
    tell: Callable[[str], None],
    progress: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> Prepared:
    """Claim the next attempt, end those before it, and restore the newest snapshot.

    Raises:
        HoldfastError: the store is unreachable or denied, nothing verifies, or the disk is too small.
        transfer.StoppedError: `should_stop` said yes.
    """
    found = catalog.read_catalog(store)
    claimed = attempt.claim(
        store,
        found.attempts,
        host=config.host,
        version=holdfast.__version__,
        platform=config.platform,
        started=datetime.now(UTC),
    )
    restored = restore.restore(
        store,
        attempt.fence(store, found, claimed),
        config.checkpoints,
        workers=workers,
        tell=tell,
        progress=progress,
        should_stop=should_stop,
    )
    if not claimed.conditional:
        tell("this store ignores conditional writes: of two containers on one prefix the older one may not notice")
    syncer = Syncer(
        store,
        config.checkpoints,
        claimed,
        restored.base,
        retention=config.retention,
        workers=workers,
        clock=lambda: datetime.now(UTC),
        tell=tell,
        room_for_prefix=len(place.prefix.encode()) + 1,
    )
    resume = latest(directory=config.checkpoints) if restored.base.files else None
    tell(_summary(place, claimed, restored, resume))
    return Prepared(claimed, restored, syncer, resume)


def _summary(place: Location, claimed: Attempt, restored: Restored, resume: Path | None) -> str:
    if not restored.base.files:
        return f"attempt {claimed.number} on {place}: nothing to restore, a fresh start"
    source = f"snapshot {restored.snapshot.name}" if restored.snapshot else "files that others wrote"
    also = f" and {len(restored.foreign)} files of others" if restored.snapshot and restored.foreign else ""
    return (
        f"attempt {claimed.number} on {place}: restored {source}{also}, {len(restored.base.files)} files, "
        f"{restored.bytes_fetched:,} bytes fetched; newest checkpoint: {resume.name if resume else 'none'}"
    )
