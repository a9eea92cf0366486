"""A large file of which a part has arrived before the restore was cut off: that part does not travel again."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.crash.scenario import MIB, small_parts
from tests.unit.job import Job, Reads, sync

from holdfast.errors import NoSnapshotError, TransientStoreError
from holdfast.restore.request import Restored
from holdfast.restore.restorer import restore
from holdfast.snapshot import catalog
from holdfast.store import Store

PARTS = 6
CONTENT = random.Random(1).randbytes(PARTS * MIB - 5)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with ThreadPoolExecutor(1) as workers, small_parts():  # one part after the other
        made = Job(tmp_path, workers)
        made.write("model.pt", CONTENT)
        sync(made.syncer("one"))
        yield made


def restored(job: Job, store: Store) -> Restored:
    found = catalog.read_catalog(job.store)
    return restore(store, found, job.root / "two", workers=job.workers)


def breaks_after(job: Job, parts: int) -> Path:
    """Break the connection to the store after so many parts; return the half-fetched file."""
    left = iter(range(parts))

    def breaks(key: str) -> None:
        if key == "model.pt" and next(left, None) is None:
            raise TransientStoreError("the way is broken")

    with pytest.raises(TransientStoreError):
        restored(job, Reads(job.root / "store", breaks))
    return job.root / "two/.holdfast/staging/model.pt"


def test_only_what_is_missing_travels(job: Job) -> None:
    breaks_after(job, 4)
    done = restored(job, job.store)
    assert done.bytes_fetched == len(CONTENT) - 4 * MIB
    assert (job.root / "two/model.pt").read_bytes() == CONTENT


def test_what_has_changed_on_the_disk_meanwhile_travels_again(job: Job) -> None:
    with breaks_after(job, 4).open("r+b") as file:
        file.seek(MIB + 5)
        file.write(b"otherwise")
    done = restored(job, job.store)
    assert done.bytes_fetched == len(CONTENT) - 3 * MIB
    assert (job.root / "two/model.pt").read_bytes() == CONTENT


def test_what_is_there_by_halves_of_another_content_is_of_no_use_and_no_harm(job: Job) -> None:
    breaks_after(job, 4).write_bytes(b"y" * (len(CONTENT) + 7))
    restored(job, job.store)
    assert (job.root / "two/model.pt").read_bytes() == CONTENT


def test_what_is_damaged_in_the_store_leaves_nothing(job: Job) -> None:
    half = breaks_after(job, 4)
    path = job.root / "store/model.pt"
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(5 * MIB)
        file.write(b"rot")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(NoSnapshotError):
        restored(job, job.store)
    assert not half.exists()


def test_what_has_its_place_on_the_disk_already_needs_no_other(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    breaks_after(job, 4)
    usage = type(shutil.disk_usage(job.root))(1, 1, MIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    restored(job, job.store)
    assert (job.root / "two/model.pt").read_bytes() == CONTENT
