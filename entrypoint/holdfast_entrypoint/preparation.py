"""Before the script exists: look at the store, claim the attempt, restore."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import holdfast
from holdfast.attempts import claim as attempt
from holdfast.attempts import fence, rendezvous
from holdfast.attempts.rendezvous import Group
from holdfast.errors import NoSnapshotError
from holdfast.local.unsent import Unsent
from holdfast.restore import restorer
from holdfast.restore.background import BackgroundRestore
from holdfast.restore.restorer import Restored
from holdfast.script.checkpoints import latest
from holdfast.snapshot import candidates, catalog
from holdfast.snapshot.attempt import Attempt
from holdfast.snapshot.commit import Commits
from holdfast.snapshot.list_writer import ListWriter
from holdfast.stop import StopToken
from holdfast.store import Store
from holdfast.store.location import Location
from holdfast.sync.assemble import Engine, assemble
from holdfast.sync.outbox import FILES_AT_A_TIME
from holdfast.sync.syncer import Syncer
from holdfast.wording import counted
from holdfast.workers.bandwidth import Bandwidth
from holdfast.workers.pool import Workers
from holdfast_entrypoint.config.settings import Config

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is ready when the script may start.

    Attributes:
        attempt: the claimed attempt.
        restored: what came from the store.
        background: brings the older checkpoints, once it is started.
        syncer: keeps the prefix up to date from here on.
        resume: the newest complete checkpoint; None on a fresh start.
    """

    attempt: Attempt
    restored: Restored
    background: BackgroundRestore
    syncer: Syncer
    resume: Path | None


def prepare(
    config: Config,
    place: Location,
    store: Store,
    *,
    workers: Workers,
    bandwidth: Bandwidth,
    progress: Callable[[int, int], None],
    stop: StopToken,
) -> Prepared:
    """Claim the next attempt, end those before it, and restore the newest snapshot.

    Raises:
        HoldfastError: the store is unreachable or denied, nothing verifies, or the disk is too small.
        StoppedError: stopped by `stop`.
    """
    unsent = Unsent(config.checkpoints, str(place), workers=Workers(1))
    bring = partial(
        restorer.restore,
        store,
        directory=config.checkpoints,
        workers=workers,
        progress=progress,
        stop=stop,
        mode=config.restore,
        unsent=unsent,
    )
    claimed, restored = (
        _alone(config, store, bring, workers)
        if config.group is None
        else _together(config, config.group, store, bring, workers)
    )
    if not claimed.conditional:
        _LOG.warning("this store ignores conditional writes: the older of two containers on one prefix may not notice")
    syncer = assemble(
        Engine(
            store=store,
            workers=workers,
            drivers=Workers(FILES_AT_A_TIME),
            clock=lambda: datetime.now(UTC),
            bandwidth=bandwidth,
            prefix_bytes=len(place.prefix.encode()) + 1,
        ),
        config.checkpoints,
        claimed,
        restored.base,
        retention=config.retention,
        unsent=unsent,
    )
    if restored.base.passed_over and not claimed.hosts:
        syncer.commit_base()
    background = BackgroundRestore(
        store,
        config.checkpoints,
        restored,
        absent=syncer.deferred,
        located=syncer.changes.located,
        workers=workers.background,
        stop=stop,
    )
    resume = latest(directory=config.checkpoints) if restored.checkpoints or restored.kept else None
    _LOG.info("%s", _summary(place, claimed, restored, resume))
    return Prepared(claimed, restored, background, syncer, resume)


def _alone(config: Config, store: Store, bring: Callable[..., Restored], workers: Executor) -> tuple[Attempt, Restored]:
    """Claim the next attempt, end those before it, and restore what the last of them committed."""
    found = catalog.read_catalog(store)
    claimed = attempt.claim(
        store,
        found.attempts,
        attempt.Claimant(config.host, holdfast.__version__, config.platform),
        started=datetime.now(UTC),
        conditional=attempt.honours_conditions(store, found, workers),
    )
    try:
        return claimed, bring(catalog=fence.fence(store, found, claimed), mine=claimed)
    except NoSnapshotError:
        # Who slept since its claim finds that another has gone on, and let go of what was seen here.
        list_writer = ListWriter(store, claimed, workers)
        Commits(store, claimed, {}, list_writer, lambda: datetime.now(UTC)).refuse_if_superseded()
        raise


def _together(
    config: Config,
    group: Group,
    store: Store,
    bring: Callable[..., Restored],
    workers: Executor,
) -> tuple[Attempt, Restored]:
    """Join the attempt of all hosts, end this host's earlier ones, and restore what all of them restore."""
    passed_over: list[str] = []
    while True:
        claimed, found, base = rendezvous.join(
            store,
            group,
            attempt.Claimant(config.host, holdfast.__version__, config.platform),
            clock=lambda: datetime.now(UTC),
            workers=workers,
            passed_over=passed_over,
        )
        found = fence.fence(store, found, claimed, workers)
        try:
            chosen = [candidates.of(store, found, base, workers)] if base else []
            return claimed, bring(catalog=found, mine=claimed, candidates=chosen)
        except NoSnapshotError:
            passed_over += base
            _LOG.warning(
                "the snapshot that attempt %d began from does not verify: the hosts begin another attempt",
                claimed.number,
            )


def _summary(place: Location, claimed: Attempt, restored: Restored, resume: Path | None) -> str:
    count, absent = len(restored.files), len(restored.base.absent)
    who = f"attempt {claimed.number}{f' of {claimed.host}' if claimed.hosts else ''} on {place}"
    if not count and not absent and not restored.kept:
        return f"{who}: nothing to restore, a fresh start"
    source = f"snapshot {restored.snapshot.name}" if restored.snapshot else "files of other writers"
    source += (
        f"; kept in the directory ({counted(sum(len(it.states) for it in restored.kept), 'file')})"
        if restored.kept
        else ""
    )
    also = (
        f" and {counted(len(restored.foreign), 'file')} of other writers"
        if restored.snapshot and restored.foreign
        else ""
    )
    rest = (
        f"; {counted(absent, 'older file')} to follow"
        if restored.behind
        else f"; {counted(absent, 'file')} left in the store"
    )
    return (
        f"{who}: restored {source}{also}, {counted(count, 'file')}, {restored.bytes_fetched:,} bytes fetched; "
        f"newest checkpoint: {resume.name if resume else 'none'}{rest if absent else ''}"
    )
