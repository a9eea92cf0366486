"""Files are sent before the rest of their checkpoint is there, and committed only with it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.unit.job import Breaks, Job, sync

from holdfast.local.scan import FileState
from holdfast.snapshot import catalog
from holdfast.stop import NEVER
from holdfast.sync.syncer import Syncer


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with ThreadPoolExecutor(4) as workers:
        yield Job(tmp_path, workers)


def send_ahead(syncer: Syncer, *paths: str) -> None:
    files = syncer.scan().files
    syncer.send_ahead([files[path] for path in paths], stop=NEVER)


def dirty(syncer: Syncer) -> list[FileState]:
    return syncer.changes.changed(syncer.scan())


def test_what_was_sent_ahead_is_in_no_snapshot_until_its_checkpoint_is_committed(job: Job) -> None:
    syncer = job.syncer("one")
    job.write("step/a", b"12345")
    send_ahead(syncer, "step/a")
    assert catalog.read_catalog(job.store).snapshots == ()
    assert [syncer.outbox.unsent(state) for state in dirty(syncer)] == [0]
    job.write("step/b", b"678")
    done = sync(syncer)
    assert done.bytes_uploaded == 3
    job.restore("two")
    assert (job.root / "two/step/a").read_bytes() == b"12345"


def test_at_the_commit_a_file_that_was_sent_ahead_is_not_even_read(job: Job) -> None:
    syncer = job.syncer("one")
    job.write("step/a", b"12345")
    send_ahead(syncer, "step/a")
    opened: list[str] = []
    over = threading.Event()
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" and not over.is_set() else None)
    job.write("step/b", b"678")
    sync(syncer)
    over.set()  # a hook stays for ever
    assert any(path.endswith("one/step/b") for path in opened)
    assert not any(path.endswith("one/step/a") for path in opened)


def test_a_file_that_changes_after_it_was_sent_ahead_is_sent_again_and_the_old_content_goes(job: Job) -> None:
    syncer = job.syncer("one")
    job.write("step/a", b"half of it")
    send_ahead(syncer, "step/a")
    job.write("step/a", b"all of it, and more")
    done = sync(syncer)
    assert done.bytes_uploaded == len(b"all of it, and more")
    syncer.tidy()
    contents = [path.read_bytes() for path in (job.root / "store").rglob("*") if path.is_file()]
    assert b"half of it" not in contents
    job.restore("two")
    assert (job.root / "two/step/a").read_bytes() == b"all of it, and more"


def test_what_was_sent_ahead_and_let_go_since_is_sent_again(job: Job) -> None:
    syncer = job.syncer("one")
    path = job.write("step/a", b"12345")
    job.write("other", b"1")
    sync(syncer, held=("step/a",))
    send_ahead(syncer, "step/a")
    aside = job.root / "aside"
    path.rename(aside)
    job.write("other", b"22")
    sync(syncer)  # complete, and without it
    syncer.tidy()
    assert not (job.root / "store/step/a").exists()
    aside.rename(path)
    sync(syncer)
    job.restore("two")
    assert (job.root / "two/step/a").read_bytes() == b"12345"


def test_what_was_sent_ahead_by_an_attempt_that_died_is_not_restored(job: Job) -> None:
    syncer = job.syncer("one")
    job.write("step/a", b"of a checkpoint that was never whole")
    send_ahead(syncer, "step/a")
    assert (job.root / "store/step/a").exists()
    assert job.restore("two").base.files == {}


def test_a_commit_that_fails_sends_nothing_twice(job: Job) -> None:
    puts: list[str] = []
    once = iter([OSError("the network is away")])

    def breaks(key: str) -> None:
        puts.append(key)
        if key.startswith((".holdfast/snapshots", ".holdfast/commits")):
            for error in once:
                raise error

    syncer = job.syncer("one", Breaks(job.root / "store", breaks))
    job.write("step/a", b"12345")
    with pytest.raises(OSError, match="away"):
        sync(syncer)
    assert [syncer.outbox.unsent(state) for state in dirty(syncer)] == [0]
    assert sync(syncer).snapshot is not None
    assert puts.count("step/a") == 1
