"""What goes is planned first, with the reasons; the plan is carried out in an order that may be cut off anywhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
from tests.unit.job import Breaks, Job, sync

from holdfast.errors import PermanentStoreError
from holdfast.maintenance.collect import Collector
from holdfast.maintenance.expire import Expirer
from holdfast.maintenance.plain_keys import PlainKeys
from holdfast.maintenance.references import References, Slots
from holdfast.maintenance.retention import Retention
from holdfast.snapshot import catalog, ownership
from holdfast.stop import StopToken


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with ThreadPoolExecutor(4) as workers:
        yield Job(tmp_path, workers)


def by_hand(job: Job, keep: int) -> tuple[Expirer, Collector]:
    """Look at the prefix as a new attempt would, which keeps so many snapshots."""
    found = catalog.read_catalog(job.store)
    plain = PlainKeys(
        job.store, None, ownership.find_origins(job.store, found, (), (), {}, None, job.workers), job.workers
    )
    slots = Slots(max(found.attempts) + 1, frozenset({""}))
    references = References(job.store, found, slots, plain, job.workers)
    expirer = Expirer(references, Retention(last=keep), plain, time.time)
    return expirer, Collector(job.store, references, plain, job.workers)


def commit_some(job: Job) -> None:
    """Commit five snapshots, keep them all, and die while the content of a sixth is stored."""

    def fail_at_the_sixth_record(key: str) -> None:
        if key.endswith("commits/000001-000006.json"):
            raise PermanentStoreError("the machine is gone")

    syncer = job.syncer("one", Breaks(job.root / "store", fail_at_the_sixth_record), retention=Retention(last=None))
    for number in range(6):
        job.write("last", b"%d" % number * 10)
        job.write(f"step-{number}", b"step %d" % number)
        if number:
            (job.root / f"one/step-{number - 1}").unlink()
        if number == 5:
            with pytest.raises(PermanentStoreError):
                sync(syncer)
        else:
            sync(syncer)
            syncer.tidy()


def test_a_plan_says_what_goes_and_why_and_deletes_nothing(job: Job) -> None:
    commit_some(job)
    before = {info.key for info in job.store.list("")}
    expirer, _ = by_hand(job, keep=2)
    plan = expirer.plan()
    assert plan == expirer.plan()
    assert {info.key for info in job.store.list("")} == before
    assert plan.records == {f"000001-00000{number}": "no longer kept" for number in (1, 2, 3)}
    reasons = {key: why for key, why in plan.objects.items() if not key.startswith(".holdfast")}
    assert reasons == {
        "step-0": "needed only by deleted snapshots",
        "step-1": "needed only by deleted snapshots",
        "step-2": "needed only by deleted snapshots",
        "step-5": "of an earlier attempt, in no snapshot",
    }


def test_a_plan_that_is_cut_off_anywhere_leaves_every_record_whole_and_the_next_one_goes_on(job: Job) -> None:
    commit_some(job)
    kept = ("000001-000004", "000001-000005")
    for patience in count():
        asked = iter(range(patience))
        expirer, collector = by_hand(job, keep=2)
        collector.collect(expirer.plan(), stop=StopToken(when=lambda asked=asked: next(asked, None) is None))  # type: ignore[misc]
        for name in catalog.read_catalog(job.store).snapshots:
            job.restore(f"{patience}-{name}", only=[name])
        if next(asked, None) is not None:
            break
    assert catalog.read_catalog(job.store).snapshots == kept
    assert expirer.plan().objects == {}
    assert {info.key for info in job.store.list("") if not info.key.startswith(".holdfast")} == {
        "last", "step-3", "step-4",
    }  # fmt: skip
