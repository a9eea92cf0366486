"""What the campaign has found, each as small as it goes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.unit.job import Job, sync

from holdfast.attempts import claim, fence
from holdfast.maintenance.retention import Retention
from holdfast.restore import restorer
from holdfast.snapshot import catalog
from holdfast.watch.settling import Killed, Settling


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with ThreadPoolExecutor(4) as workers:
        yield Job(tmp_path, workers)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def test_tidying_copes_with_three_files_of_one_content_of_which_one_is_overwritten(job: Job) -> None:
    syncer = job.syncer("one")
    job.write("a", b"")
    sync(syncer)
    job.write("a", b"overwritten")
    job.write("b", b"")
    job.write("c", b"")
    sync(syncer)
    syncer.tidy()
    assert contents(job.root / "store") == {"a": b"overwritten", "b": b"", "c": b""}


def test_tidying_after_a_restart_copes_with_content_that_was_preserved_before_it(job: Job) -> None:
    syncer = job.syncer("one")
    job.write("z", b"")
    sync(syncer)
    job.write("z", b"overwritten")
    job.write("a", b"")
    sync(syncer)
    syncer.tidy()
    again = job.syncer("two")
    job.write("b", b"", "two")
    sync(again)
    again.tidy()
    assert contents(job.root / "store") == {"z": b"overwritten", "a": b"", "b": b""}


def test_tidying_copes_with_content_that_somebody_else_has_overwritten(job: Job) -> None:
    syncer = job.syncer("one")
    job.write("a", b"same")
    sync(syncer)
    job.write("b", b"same")
    sync(syncer)
    (job.root / "store/a").write_bytes(b"another writer's")
    syncer.tidy()
    job.write("c", b"more")
    assert sync(syncer).snapshot is not None


def test_a_file_that_is_deleted_during_a_pass_holds_back_only_itself(job: Job) -> None:
    job.write("a", b"1")
    job.write("b", b"2")
    syncer = job.syncer("one")
    scan = syncer.scan()
    (job.root / "one/b").unlink()
    done = syncer.sync(scan)
    assert done.snapshot is not None
    assert list(done.snapshot.files) == ["a"]


def test_a_directory_that_becomes_a_file_during_a_pass_holds_back_only_itself(job: Job) -> None:
    job.write("a", b"1")
    job.write("b/shard", b"2")
    syncer = job.syncer("one")
    scan = syncer.scan()
    (job.root / "one/b/shard").unlink()
    (job.root / "one/b").rmdir()
    job.write("b", b"3")
    done = syncer.sync(scan)
    assert done.snapshot is not None
    assert list(done.snapshot.files) == ["a"]


def test_an_attempt_that_slept_between_its_listing_and_its_claim_goes_on_from_the_newest_snapshot(job: Job) -> None:
    before = job.syncer("one", retention=Retention(last=1))
    job.write("a", b"old")
    sync(before)
    found = catalog.read_catalog(job.store)
    meanwhile = job.syncer("two", retention=Retention(last=1))
    for content in (b"newer", b"newest"):
        job.write("a", content, "two")
        sync(meanwhile)
    meanwhile.tidy()
    claimed = claim.claim(job.store, found.attempts, claim.Claimant("h", "0", "local"), started=datetime.now(UTC))
    found = fence.fence(job.store, found, claimed)
    restorer.restore(job.store, found, job.root / "three", workers=job.workers)
    assert contents(job.root / "three") == {"a": b"newest"}


def test_a_file_that_becomes_a_directory_is_stored_in_a_directory_too(job: Job) -> None:
    syncer = job.syncer("one")
    job.write("last", b"a file")
    sync(syncer)
    (job.root / "one/last").unlink()
    job.write("last/shard", b"a directory")
    done = sync(syncer)
    assert done.unfinished == {}
    job.restore("two")
    assert (job.root / "two/last/shard").read_bytes() == b"a directory"


def test_a_directory_that_is_being_deleted_when_the_signal_comes_is_suspect_also_if_it_was_renamed_into_place() -> None:
    settling = Settling()
    for name in ("a", "b"):
        settling.closed(f"tmp-step/{name}", 10)
        settling.renamed(f"tmp-step/{name}", f"step/{name}", 11)
    settling.gone("step/a", 99.9)
    assert settling.torn(["step/b"], Killed(at=100, seen=True)) == ["step/b"]
