"""A store that ignores conditional writes: what still holds there, as docs/snapshot-format.md states it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.unit.job import Job, sync

from holdfast.attempts import claim
from holdfast.errors import SupersededError
from holdfast.maintenance.retention import Retention
from holdfast.snapshot import catalog
from holdfast.store import Condition, Content, Metadata, Part
from holdfast.store.directory.store import DirectoryStore


class Ignores(DirectoryStore):
    """A directory that writes whatever the condition says."""

    def put(self, key: str, part: Part, *, metadata: Metadata | None = None, condition: Condition | None = None) -> str:
        return super().put(key, part, metadata=metadata)

    def copy(
        self, source: Content, key: str, *, metadata: Metadata | None = None, condition: Condition | None = None
    ) -> str:
        return super().copy(source, key, metadata=metadata)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with ThreadPoolExecutor(4) as workers:
        job = Job(tmp_path, workers)
        job.store = Ignores(tmp_path / "store")
        yield job


def test_it_shows_at_the_claim(job: Job) -> None:
    claimed = claim.claim(job.store, (), claim.Claimant("h", "0", "local"), started=datetime.now(UTC))
    assert not claimed.conditional


def test_a_zombie_still_learns_of_its_end_and_its_snapshots_stay_behind(job: Job) -> None:
    zombie = job.syncer("one")
    job.write("last", b"zombie", "one")
    sync(zombie)
    successor = job.syncer("two")
    job.write("last", b"successor", "two")
    sync(successor)
    job.write("last", b"zombie again", "one")
    with pytest.raises(SupersededError):
        sync(zombie)
    job.restore("three")
    assert (job.root / "three/last").read_bytes() == b"successor"


def test_two_containers_with_the_same_number_do_not_take_each_others_records_for_their_own(job: Job) -> None:
    found = catalog.read_catalog(job.store)
    one, two = (
        claim.claim(job.store, found.attempts, claim.Claimant("h", "0", "local"), started=datetime.now(UTC))
        for _ in range(2)
    )
    assert one.number == two.number
    syncers = [job.syncer_of(claimed, machine) for claimed, machine in ((one, "one"), (two, "two"))]
    job.write("last", b"one", "one")
    job.write("last", b"two", "two")
    sync(syncers[0])
    with pytest.raises(SupersededError, match="as attempt 1 too"):
        sync(syncers[1])


def test_snapshots_stay_whole_through_overwrites_and_retention(job: Job) -> None:
    for life in range(3):
        syncer = job.syncer(f"machine-{life}", retention=Retention(last=2))
        for step in range(4):
            job.write("last", b"%d-%d" % (life, step), f"machine-{life}")
            sync(syncer)
            syncer.tidy()
    records = catalog.read_catalog(job.store).snapshots
    kept = [name for name in records if name.startswith("000003")]
    assert len(kept) == 2
    for name, content in zip(kept, (b"2-2", b"2-3"), strict=True):
        job.restore(name, only=[name])
        assert (job.root / name / "last").read_bytes() == content
