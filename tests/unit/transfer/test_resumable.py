"""A large upload that was cut off goes on where it was, in the same attempt and in the next one on the same volume."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.unit.job import Job, sync

from holdfast.errors import TransientStoreError
from holdfast.stop import StoppedError, StopToken
from holdfast.store import Part, StoredPart, Upload
from holdfast.store.directory.store import DirectoryStore
from holdfast.transfer import parts
from holdfast.transfer import upload as transfer
from holdfast.transfer.resumable import ResumableUploads

PART = parts.PART_SIZE
SIZE = transfer.SINGLE_PUT + PART + 12345


@pytest.fixture(scope="module")
def content() -> bytes:
    return random.Random(2).randbytes(SIZE)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with ThreadPoolExecutor(1) as workers:
        yield Job(tmp_path, workers)


class Watched(DirectoryStore):
    """A store that takes so many parts and no more for now, and tells which it was sent."""

    def __init__(self, root: Path, takes: int = 1000) -> None:
        super().__init__(root)
        self.takes = takes
        self.sent: list[int] = []

    def put_part(self, upload: Upload, number: int, part: Part) -> StoredPart:
        if len(self.sent) >= self.takes:
            raise TransientStoreError("storing failed: HTTP 503 (SlowDown)")
        self.sent.append(number)
        return super().put_part(upload, number, part)


def notes(job: Job, machine: str = "one") -> list[Path]:
    return sorted((job.root / machine / ".holdfast").glob("upload-*"))


def cut_off(job: Job, content: bytes, after: int = 2) -> None:
    """Let an attempt send two parts of a file when its time is up."""
    job.write("model.bin", content)
    store = Watched(job.root / "store")
    done = sync(job.syncer("one", store), stop=StopToken(when=lambda: len(store.sent) >= after))
    assert isinstance(done.unfinished["model.bin"], StoppedError)
    assert len(notes(job)) == 1


def test_an_upload_that_a_deadline_cuts_off_is_finished_by_the_next_attempt(job: Job, content: bytes) -> None:
    cut_off(job, content)
    store = Watched(job.root / "store")
    syncer = job.syncer("one", store)
    done = sync(syncer)
    already = SIZE - done.bytes_uploaded
    assert already >= 2 * PART
    assert already % PART == 0
    assert done.snapshot is not None
    assert done.snapshot.attempt == 2
    assert store.head("model.bin").metadata == {"holdfast-attempt": "1"}  # who began it
    assert (job.root / "store/model.bin").read_bytes() == content
    assert notes(job) == []
    assert not (job.root / "one/.holdfast").exists()
    syncer.tidy()
    assert (job.root / "store/model.bin").exists()
    assert list(store.unfinished_uploads()) == []
    sync(job.syncer("two"))
    assert job.restore("three").bytes_fetched == SIZE


def test_an_upload_that_failed_goes_on_in_the_same_attempt(job: Job, content: bytes) -> None:
    store = Watched(job.root / "store", takes=3)
    syncer = job.syncer("one", store)
    job.write("model.bin", content)
    with pytest.raises(TransientStoreError):
        sync(syncer)
    store.takes = 1000
    assert sync(syncer).bytes_uploaded == SIZE - 3 * PART
    assert sorted(store.sent) == [1, 2, 3, 4, 5, 6]
    assert (job.root / "store/model.bin").read_bytes() == content
    assert notes(job) == []


def test_of_a_file_that_has_changed_since_only_what_still_fits_is_kept(job: Job, content: bytes) -> None:
    cut_off(job, content)
    changed = b"x" + content[1:-1] + b"x"
    job.write("model.bin", changed)
    store = Watched(job.root / "store")
    sync(job.syncer("one", store))
    assert 1 in store.sent
    assert 2 not in store.sent
    assert (job.root / "store/model.bin").read_bytes() == changed


def test_an_upload_to_a_content_key_goes_on_there(job: Job, content: bytes) -> None:
    job.write("model.bin", b"first")
    sync(job.syncer("one"))
    store = Watched(job.root / "store", takes=2)
    syncer = job.syncer("one", store)
    job.write("model.bin", content)
    with pytest.raises(TransientStoreError):
        sync(syncer)
    # The next attempt must not sweep it away before it goes on.
    syncer = job.syncer("one", store)
    job.write("model.bin", content)
    job.write("beside.txt", b"beside")
    sync(syncer, held=("model.bin",))
    syncer.tidy()
    assert len(list(store.unfinished_uploads())) == 1
    store.takes = 1000
    done = sync(syncer)
    assert done.bytes_uploaded == SIZE - 2 * PART
    assert done.snapshot is not None
    assert done.snapshot.files["model.bin"].key == ".holdfast/objects/000002-000001/model.bin"
    syncer.tidy()
    assert job.restore("two").snapshot is not None
    assert (job.root / "two/model.bin").read_bytes() == content
    assert (job.root / "store/model.bin").read_bytes() == content


@pytest.mark.parametrize("what", ["dropped", "another prefix", "key taken", "note cut off", "note of tomorrow"])
def test_an_upload_that_cannot_go_on_begins_anew(job: Job, content: bytes, what: str) -> None:
    cut_off(job, content)
    if what == "dropped":
        for unfinished in job.store.unfinished_uploads():
            job.store.abort_upload(unfinished.upload)
    elif what == "another prefix":
        (job.root / "store").rename(job.root / "old")
        (job.root / "store").mkdir()
    elif what == "note cut off":
        notes(job)[0].write_bytes(notes(job)[0].read_bytes()[:20])
    elif what == "note of tomorrow":
        notes(job)[0].write_text('{"format": 9}\n')
    store = Watched(job.root / "store")
    syncer = job.syncer("one", store)
    if what == "key taken":
        (job.root / "store/model.bin").write_bytes(b"another writer's")
    done = sync(syncer)
    assert done.bytes_uploaded >= SIZE
    assert done.snapshot is not None
    assert (job.root / "store" / done.snapshot.files["model.bin"].key).read_bytes() == content
    assert notes(job) == []
    if what not in ("note cut off", "note of tomorrow"):  # a day later a sweep finds those
        assert list(job.store.unfinished_uploads()) == []


def test_a_part_that_the_store_has_lost_is_found_out_at_the_completion(job: Job, content: bytes) -> None:
    cut_off(job, content)
    for upload in (job.root / "store/.holdfast/uploads").iterdir():
        with (upload / "whole").open("r+b") as file:
            file.truncate(0)
    done = sync(job.syncer("one"))
    assert done.unfinished == {}
    assert job.restore("two").bytes_fetched == SIZE
    assert (job.root / "two/model.bin").read_bytes() == content


def test_an_upload_that_nobody_goes_on_with_is_dropped_after_the_next_commit(job: Job, content: bytes) -> None:
    cut_off(job, content)
    (job.root / "one/model.bin").unlink()
    job.write("other.txt", b"other")
    syncer = job.syncer("one")
    sync(syncer)
    assert len(list(job.store.unfinished_uploads())) == 1
    syncer.tidy()
    assert list(job.store.unfinished_uploads()) == []
    assert notes(job) == []


def test_an_upload_of_another_host_is_left_alone(job: Job, content: bytes) -> None:
    upload = job.store.begin_upload("model.bin", part_size=PART, metadata={"holdfast-attempt": "1@algo-2"})
    job.write("model.bin", content)
    ResumableUploads(job.root / "one", "algo-2").begin(upload, "model.bin", SIZE)
    syncer = job.syncer("one")
    assert sync(syncer).bytes_uploaded == SIZE
    syncer.tidy()
    assert [it.upload.id for it in job.store.unfinished_uploads()] == [upload.id]
    assert len(notes(job)) == 1


def test_where_nothing_can_be_noted_an_upload_that_is_cut_off_is_dropped(job: Job, content: bytes) -> None:
    job.write("model.bin", content)
    job.write(".holdfast", b"a file, where a directory should be")
    store = Watched(job.root / "store")
    sync(job.syncer("one", store), stop=StopToken(when=lambda: len(store.sent) >= 2))
    assert list(store.unfinished_uploads()) == []
    assert sync(job.syncer("one", store)).unfinished == {}


def test_a_process_that_is_killed_between_two_parts_has_noted_those_before(job: Job, content: bytes) -> None:
    code = """
import os, signal, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tests.unit.job import Job, sync
from tests.unit.transfer.test_resumable import Watched

class Killed(Watched):
    def put_part(self, *args):
        if len(self.sent) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().put_part(*args)

root = Path(sys.argv[1])
with ThreadPoolExecutor(1) as workers:
    (root / "store").rmdir()
    job = Job(root, workers)
    sync(job.syncer("one", Killed(root / "store")))
"""
    job.write("model.bin", content)
    killed = subprocess.run([sys.executable, "-c", code, str(job.root)], cwd=Path(__file__).parents[3])
    assert killed.returncode == -signal.SIGKILL
    store = Watched(job.root / "store")
    assert sync(job.syncer("one", store)).bytes_uploaded == SIZE - 3 * PART
    assert (job.root / "store/model.bin").read_bytes() == content
