"""Prepare one life before the script exists: make directories, claim an attempt, restore."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import holdfast
from holdfast.attempts import claim as attempt
from holdfast.attempts import fence, rendezvous
from holdfast.attempts.rendezvous import Group
from holdfast.errors import ConfigError, NoSnapshotError
from holdfast.local.unsent import Unsent
from holdfast.restore import restorer
from holdfast.restore.background import BackgroundRestore
from holdfast.restore.request import Request, Restored
from holdfast.script.checkpoints import latest
from holdfast.snapshot import candidates, catalog
from holdfast.snapshot.attempt import Attempt
from holdfast.snapshot.candidates import Candidate
from holdfast.snapshot.catalog import Catalog
from holdfast.snapshot.commit import Commits
from holdfast.snapshot.list_writer import ListWriter
from holdfast.stop import StopToken
from holdfast.store import Store
from holdfast.store.location import Location
from holdfast.sync.assemble import Engine, assemble
from holdfast.sync.outbox import FILES_AT_A_TIME
from holdfast.sync.syncer import Syncer
from holdfast.wording import counted
from holdfast.workers.pool import Workers
from holdfast_entrypoint.config import environment
from holdfast_entrypoint.config.settings import Config
from holdfast_entrypoint.traffic import Traffic

_LOG = logging.getLogger(__name__)


@dataclass(kw_only=True, frozen=True, slots=True)
class Prepared:
    """What the script and its watch start from.

    Attributes:
        attempt: the claimed attempt.
        restored: result of the restore.
        background: restore of older checkpoints, not started yet.
        syncer: stores the checkpoint directory.
        resume: the newest complete checkpoint; None on a fresh start.
    """

    attempt: Attempt
    restored: Restored
    background: BackgroundRestore
    syncer: Syncer
    resume: Path | None


def make_directories(config: Config) -> None:
    """Make the checkpoint directory, and the others as on SageMaker.

    Raises:
        ConfigError: the checkpoint directory cannot be made, and there is a store for it.
    """
    try:
        environment.make_tree(config)
    except OSError as error:
        _LOG.warning(
            "%s cannot be laid out as on SageMaker (%s); set SAGEMAKER_BASE_DIR to a writable directory if the "
            "script needs it", config.base, error,
        )  # fmt: skip
    try:
        config.checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if config.location is not None:
            raise ConfigError(
                f"the checkpoint directory cannot be made ({error}): set CHECKPOINT_LOCAL_PATH to a writable one"
            ) from error


def prepare(
    config: Config, place: Location, traffic: Traffic, *, progress: Callable[[int, int], None], stop: StopToken
) -> Prepared:
    """Claim the next attempt, fence those before it, and restore the newest snapshot.

    Raises:
        HoldfastError: the store is unreachable or denied, nothing verifies, or the disk is too small.
        StoppedError: stopped by `stop`.
    """
    store, workers = traffic.open(place), traffic.workers
    unsent = Unsent(config.checkpoints, str(place), workers=Workers(1))

    def restore(found: Catalog, attempt: Attempt, chosen: Iterable[Candidate] | None = None) -> Restored:
        request = Request(attempt=attempt, mode=config.restore, candidates=chosen, unsent=unsent)
        return restorer.restore(
            store, found, config.checkpoints, request, workers=workers, progress=progress, stop=stop
        )

    if config.group is None:
        claimed, restored = _claim_alone(config, store, restore, workers)
    else:
        claimed, restored = _claim_together(config, config.group, store, restore, workers)
    if not claimed.conditional:
        _LOG.warning("this store ignores conditional writes: the older of two containers on one prefix may not notice")
    syncer = assemble(
        Engine(
            store=store,
            workers=workers,
            drivers=Workers(FILES_AT_A_TIME),
            clock=lambda: datetime.now(UTC),
            bandwidth=traffic.bandwidth,
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
        deferred=syncer.deferred,
        located=syncer.changes.located,
        workers=workers.background,
        stop=stop,
    )
    resume = latest(directory=config.checkpoints) if restored.checkpoints or restored.kept else None
    _LOG.info("%s", _summary(place, claimed, restored, resume))
    return Prepared(attempt=claimed, restored=restored, background=background, syncer=syncer, resume=resume)


def _claim_alone(
    config: Config, store: Store, restore: Callable[..., Restored], workers: Executor
) -> tuple[Attempt, Restored]:
    """Claim the next attempt, fence those before it, and restore the newest snapshot."""
    found = catalog.read_catalog(store)
    claimed = attempt.claim(
        store,
        found.attempts,
        attempt.Claimant(config.host, holdfast.__version__, config.platform),
        started=datetime.now(UTC),
        conditional=attempt.honours_conditions(store, found, workers),
    )
    try:
        return claimed, restore(fence.fence(store, found, claimed), claimed)
    except NoSnapshotError:
        # A successor may have expired the snapshots that were listed, if this process slept after its claim.
        list_writer = ListWriter(store, claimed, workers)
        Commits(store, claimed, {}, list_writer, lambda: datetime.now(UTC)).refuse_if_superseded()
        raise


def _claim_together(
    config: Config, group: Group, store: Store, restore: Callable[..., Restored], workers: Executor
) -> tuple[Attempt, Restored]:
    """Join the attempt of all hosts, fence this host's earlier ones, and restore the snapshot of all hosts."""
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
            return claimed, restore(found, claimed, chosen)
        except NoSnapshotError:
            passed_over += base
            _LOG.warning(
                "the snapshot that attempt %d began from does not verify: the hosts begin another attempt",
                claimed.number,
            )


def _summary(place: Location, claimed: Attempt, restored: Restored, resume: Path | None) -> str:
    count, deferred = len(restored.files), len(restored.base.deferred)
    who = f"attempt {claimed.number}{f' of {claimed.host}' if claimed.hosts else ''} on {place}"
    if not count and not deferred and not restored.kept:
        return f"{who}: nothing to restore, a fresh start"
    source = f"snapshot {restored.snapshot.name}" if restored.snapshot else "files of other writers"
    if restored.kept:
        source += f"; kept in the directory ({counted(sum(len(note.states) for note in restored.kept), 'file')})"
    if restored.snapshot and restored.foreign:
        source += f" and {counted(len(restored.foreign), 'file')} of other writers"
    rest = ""
    if deferred and restored.later:
        rest = f"; {counted(deferred, 'older file')} to follow"
    elif deferred:
        rest = f"; {counted(deferred, 'file')} left in the store"
    return (
        f"{who}: restored {source}, {counted(count, 'file')}, {restored.bytes_fetched:,} bytes fetched; "
        f"newest checkpoint: {resume.name if resume else 'none'}{rest}"
    )
