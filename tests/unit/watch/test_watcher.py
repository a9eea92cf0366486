"""The thread that watches the checkpoint directory, with real files and a store in a directory."""

from __future__ import annotations

import logging
import mmap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.logs import Logged
from tests.unit.job import Breaks, Job

from holdfast.attempts import rendezvous
from holdfast.attempts.claim import Claimant
from holdfast.attempts.rendezvous import Group
from holdfast.maintenance.retention import Retention
from holdfast.restore.request import Request
from holdfast.restore.restorer import restore
from holdfast.snapshot import catalog
from holdfast.snapshot.record import Snapshot
from holdfast.snapshot.records import load_record
from holdfast.stop import NEVER, StopToken
from holdfast.store import Condition, Content, Metadata, Part, StoredPart, Upload
from holdfast.store.directory.store import DirectoryStore
from holdfast.sync.assemble import Engine, assemble
from holdfast.sync.syncer import Syncer
from holdfast.watch import schedule
from holdfast.watch import watcher as watch
from holdfast.watch.settling import Killed, Settling
from holdfast.watch.watcher import Watcher


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with ThreadPoolExecutor(4) as workers:
        yield Job(tmp_path, workers)


@contextmanager
def watching(job: Job, syncer: Syncer) -> Iterator[Watcher]:
    watcher = Watcher(syncer, workers=job.workers, on_end=lambda: None, stop=NEVER, settling=Settling())
    watcher.start()
    watcher.watching.wait()
    yield watcher
    watcher.finish()
    watcher.join()
    assert watcher.error is None


def wait_until(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_a_host_of_several_records_again_and_again_that_its_last_snapshot_is_up_to_date(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "REPORT_EVERY", 0.1)
    monkeypatch.setattr(schedule, "SAFETY_SCAN", 0.05)
    claimed, found, base = rendezvous.join(
        job.store, Group(("a", "b"), "run"), Claimant("a", "0", "local"),
        clock=lambda: datetime.now(UTC), workers=job.workers,
    )  # fmt: skip
    assert base == ()
    done = restore(job.store, found, job.root / "one", Request(attempt=claimed, candidates=[]), workers=job.workers)
    syncer = assemble(
        Engine(store=job.store, workers=job.workers, clock=lambda: datetime.now(UTC)),
        job.root / "one",
        claimed,
        done.base,
    )

    def newest() -> Snapshot | None:
        loaded = [load_record(job.store, name) for name in catalog.read_catalog(job.store).snapshots[-1:]]
        return loaded[0] if loaded and isinstance(loaded[0], Snapshot) else None

    with watching(job, syncer):
        job.write("step-1", b"1")
        wait_until(lambda: (record := newest()) and record.files and record.since is not None)
        first = newest()
        assert first is not None
        wait_until(lambda: (record := newest()) and record.created > first.created and record.since == first.since)
    last = newest()
    assert last is not None
    assert last.ended


def test_one_host_alone_records_nothing_while_nothing_changes(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "REPORT_EVERY", 0.01)
    monkeypatch.setattr(schedule, "SAFETY_SCAN", 0.01)
    with watching(job, job.syncer("one")):
        job.write("a", b"1")
        wait_until(lambda: catalog.read_catalog(job.store).snapshots)
        time.sleep(0.3)
    assert len(catalog.read_catalog(job.store).snapshots) == 1


def test_a_log_that_is_appended_for_ever_keeps_nothing_from_being_tidied(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "COMMIT_DELAY", 0.1)
    with watching(job, job.syncer("one", retention=Retention(last=1))), (job.root / "one/train.log").open("w") as log:
        for content in (b"1", b"2", b"3"):
            names = catalog.read_catalog(job.store).snapshots
            job.write("last", content)
            while catalog.read_catalog(job.store).snapshots[-1:] == names[-1:]:
                print("step", file=log, flush=True)
                time.sleep(0.05)

        while len(catalog.read_catalog(job.store).snapshots) > 1 or (job.root / "store/last").read_bytes() != b"3":
            print("step", file=log, flush=True)
            time.sleep(0.05)


def test_a_store_that_refuses_deletions_is_logged_and_checkpoints_are_still_stored(job: Job, logged: Logged) -> None:
    class Keeps(DirectoryStore):
        def delete(self, key: str, *, etag: str | None = None) -> None:
            raise PermissionError("s3:DeleteObject is not allowed")

    job.store = Keeps(job.root / "store")
    with watching(job, job.syncer("one", retention=Retention(last=1))):
        for content in (b"1", b"2"):
            names = catalog.read_catalog(job.store).snapshots
            job.write("last", content)
            while catalog.read_catalog(job.store).snapshots == names:
                time.sleep(0.02)
        wait_until(lambda: any("cannot be tidied" in text for text in logged()))


def test_a_large_file_travels_before_the_rest_of_its_directory_is_there_and_only_once(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "AHEAD", 1000)
    puts: list[str] = []
    (job.root / "one/step-1").mkdir(parents=True)  # seen before what is opened in it
    with watching(job, job.syncer("one", Breaks(job.root / "store", puts.append))):
        job.write("step-1/large", bytes(2000))
        job.write("step-1/small", b"1")
        with (job.root / "one/step-1/open").open("wb") as more:
            more.write(b"not done yet")
            more.flush()
            wait_until((job.root / "store/step-1/large").exists)
            job.write("step-1/large", bytes([1]) * 2000)  # written again: it waits for the others now
            job.write("step-1/other", bytes([2]) * 2000)
            wait_until((job.root / "store/step-1/other").exists)
            assert catalog.read_catalog(job.store).snapshots == ()
    assert "step-1/small" not in puts[: puts.index("step-1/other")]
    assert [put.rpartition("/")[2] for put in puts].count("large") == 2
    job.restore("two")
    assert (job.root / "two/step-1/large").read_bytes() == bytes([1]) * 2000
    assert (job.root / "two/step-1/open").read_bytes() == b"not done yet"


def test_a_log_is_never_sent_ahead(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "AHEAD", 10)
    puts: list[str] = []
    with (
        watching(job, job.syncer("one", Breaks(job.root / "store", puts.append))),
        (job.root / "one/open").open("wb") as more,
    ):
        more.write(b"not done yet")
        more.flush()
        job.write("train.log", bytes(100))
        job.write("model", bytes(100))
        wait_until(lambda: "model" in puts)
        assert "train.log" not in puts[: puts.index("model")]


def test_what_changed_while_events_were_dropped_is_found_without_another_event(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "SAFETY_SCAN", 3600.0)
    with watching(job, job.syncer("one")):
        with job.write("a", b"1").open("r+b") as file:
            mapped = mmap.mmap(file.fileno(), 1)
        wait_until(lambda: catalog.read_catalog(job.store).snapshots)
        time.sleep(0.5)  # the events of the file are drained
        mapped[:] = b"2"  # inotify reports nothing of it
        mapped.flush()
        time.sleep(0.5)
        assert (job.root / "store/a").read_bytes() == b"1"
        logging.getLogger("watchdog").warning("the kernel dropped events")
        wait_until(lambda: (job.root / "store/a").read_bytes() == b"2")
        mapped.close()


def test_a_directory_that_was_renamed_into_place_just_before_the_kill_is_committed(job: Job, tmp_path: Path) -> None:
    with watching(job, job.syncer("one")) as watcher:
        job.write("old", b"1")
        wait_until(lambda: catalog.read_catalog(job.store).snapshots)
        job.write("tmp-step/shard", b"2")
        time.sleep(0.7)
        (job.root / "one/old").rename(tmp_path / "elsewhere")  # the kernel's library holds back what comes after it
        (job.root / "one/tmp-step").rename(job.root / "one/step")
        watcher.finish(killed=Killed(at=time.monotonic(), seen=True))
        watcher.join()
        assert watcher.error is None
    assert (job.root / "store/step/shard").read_bytes() == b"2"


class Ends(DirectoryStore):
    """A store in a directory that notes each request, and calls `then` at the first copy or part."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.done: list[str] = []
        self.then: Callable[[], object] | None = None

    def _note(self, what: str) -> None:
        self.done.append(what)
        then, self.then = self.then, None
        if then is not None:
            then()

    def copy(self, source: Content, key: str, **how: Any) -> str:
        self._note("copy")
        return super().copy(source, key, **how)

    def put_part(self, upload: Upload, number: int, part: Part) -> StoredPart:
        self._note("part")
        return super().put_part(upload, number, part)

    def put(self, key: str, part: Part, *, metadata: Metadata | None = None, condition: Condition | None = None) -> str:
        self.done.append(key)
        return super().put(key, part, metadata=metadata, condition=condition)


def ending(job: Job, store: Ends) -> tuple[Watcher, Callable[[], None]]:
    """Return a watch with a deadline, and a function that writes a new file and finishes the watch."""
    syncer = job.syncer("one", store)
    watcher = Watcher(
        syncer,
        workers=job.workers,
        on_end=lambda: None,
        stop=StopToken(seconds_left=lambda: 60.0),
        settling=Settling(),
    )
    watcher.start()
    watcher.watching.wait()

    def end() -> None:
        job.write("newest", b"newest")
        watcher.finish()

    return watcher, end


def test_the_last_flush_does_not_wait_for_the_tidying(job: Job) -> None:
    store = Ends(job.root / "store")
    watcher, end = ending(job, store)
    paths = [f"file-{number}" for number in range(8)]
    for path in paths:
        job.write(path, b"1")
    wait_until(lambda: all((job.root / "store" / path).exists() for path in paths))
    wait_until(lambda: catalog.read_catalog(job.store).snapshots)
    store.then = end
    for path in paths:
        job.write(path, b"2")
    watcher.join(60)
    assert watcher.error is None
    assert "copy" in store.done[store.done.index("newest") :]
    assert (job.root / "store/file-7").read_bytes() == b"2"


def test_a_large_file_that_is_under_way_at_the_end_does_not_go_before_what_is_newer(job: Job) -> None:
    store = Ends(job.root / "store")
    watcher, end = ending(job, store)
    store.then = end
    with (job.root / "one/large").open("wb") as file:
        file.truncate(160 << 20)
    watcher.join(60)
    assert watcher.error is None
    assert "part" in store.done[store.done.index("newest") :]
    assert store.done.count("part") == 10  # none of them twice
    assert watcher.last is not None
    assert not watcher.last.unfinished
