"""Contents, and parts of large files, that the store already has are not sent again."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.logs import Logged
from tests.unit.job import Job, sync

from holdfast.errors import AccessDeniedError, PermanentStoreError, StoreError
from holdfast.maintenance.retention import Retention
from holdfast.snapshot import catalog
from holdfast.snapshot.record import FileEntry, Snapshot
from holdfast.snapshot.records import load_record
from holdfast.stop import StopToken
from holdfast.store import ObjectRange, StoredPart, Upload
from holdfast.store.directory.store import DirectoryStore
from holdfast.transfer import parts
from holdfast.transfer import upload as transfer
from holdfast.transfer.content_index import ContentIndex, Place
from holdfast.transfer.part_checksums import Grid, from_text

MIB = 1 << 20
PART = parts.PART_SIZE
SIZE = transfer.SINGLE_PUT + PART + 12345
"""Five parts and a bit."""


@pytest.fixture(scope="module")
def content() -> bytes:
    return random.Random(1).randbytes(SIZE)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with ThreadPoolExecutor(4) as workers:
        yield Job(tmp_path, workers)


def patched(content: bytes, *offsets: int) -> bytes:
    """Return the content with another byte at each offset."""
    changed = bytearray(content)
    for offset in offsets:
        changed[offset] ^= 0xFF
    return bytes(changed)


class CopiesAre(DirectoryStore):
    """A store that calls a function before each copy of a part."""

    def __init__(self, root: Path, happens: Callable[[str], None]) -> None:
        super().__init__(root)
        self.asked: list[str] = []
        self._happens = happens

    def put_part_copy(self, upload: Upload, number: int, source: ObjectRange) -> StoredPart:
        self.asked.append(source.key)
        self._happens(source.key)
        return super().put_part_copy(upload, number, source)


def restored(job: Job, path: str, machine: str = "fresh") -> bytes:
    job.restore(machine)
    return (job.root / machine / path).read_bytes()


# The index


def test_a_grid_survives_the_way_through_a_record() -> None:
    grid = Grid(PART, (0, 1, 2**64 - 1))
    assert from_text(grid.to_text(), size=2 * PART + 1) == grid
    assert list(grid.parts(2 * PART + 1)) == [(0, 0, PART), (1, PART, PART), (2**64 - 1, 2 * PART, 1)]


@pytest.mark.parametrize("text", ["", "16", "16:!", "0:AAAAAAAAAAA=", "-1:AAAAAAAAAAA=", "16:AAAA", "1:AAAAAAAAAAA="])
def test_what_is_no_grid_of_the_file_is_none_and_harms_nobody(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_text(text, size=16)
    known = ContentIndex(
        [FileEntry(path="a", size=16, mtime_ns=0, mode=0o644, crc64nvme=7, key="a", etag='"e"', parts=text)]
    )
    assert known.place(16, 7) == Place("a", '"e"')
    assert known.may_have(16)


def test_parts_are_where_their_content_is_as_long_as_it_is() -> None:
    entry = FileEntry(
        path="a", size=20, mtime_ns=0, mode=0o644, crc64nvme=7, key="a", etag='"e"', parts=Grid(16, (1, 2)).to_text()
    )
    known = ContentIndex([entry])
    assert known.part(4, 2) == ObjectRange(key="a", etag='"e"', offset=16, size=4, crc64nvme=2)
    assert known.part(16, 2) is None
    assert not known.may_have(20)
    known.add(replace(entry, key="b", etag='"f"'))
    known.gone(["a"])
    assert known.part(4, 2) == ObjectRange(key="b", etag='"f"', offset=16, size=4, crc64nvme=2)
    known.gone(["b"])
    assert known.part(4, 2) is None
    assert known.place(20, 7) is None


# Delta


def test_of_a_large_file_that_changes_in_place_the_changed_parts_travel(job: Job, content: bytes) -> None:
    syncer = job.syncer("one")
    job.write("model.bin", content)
    assert sync(syncer).bytes_uploaded == SIZE
    changed = patched(content, 3, 2 * PART + 5, 2 * PART + MIB)
    job.write("model.bin", changed)
    assert sync(syncer).bytes_uploaded == 2 * PART
    assert restored(job, "model.bin") == changed


def test_parts_are_known_after_a_restart_and_whatever_the_file_is_called(job: Job, content: bytes) -> None:
    job.write("checkpoint-1/model.safetensors", content)
    job.write("adapter.bin", b"small")
    sync(job.syncer("one"))
    syncer = job.syncer("two")
    job.write("checkpoint-2/pytorch_model.bin", patched(content, SIZE - 1), "two")
    assert sync(syncer).bytes_uploaded == SIZE % PART
    third = job.syncer("three")
    job.write("checkpoint-3/pytorch_model.bin", patched(content, 0), "three")  # the end is that of checkpoint 1
    done = sync(third)
    assert done.bytes_uploaded == PART
    assert done.snapshot is not None
    assert done.snapshot.files.keys() == {
        *("checkpoint-1/model.safetensors", "adapter.bin"),
        *("checkpoint-2/pytorch_model.bin", "checkpoint-3/pytorch_model.bin"),
    }
    for path, entry in done.snapshot.files.items():
        assert (entry.parts is None) == (path == "adapter.bin")
    assert restored(job, "checkpoint-3/pytorch_model.bin") == patched(content, 0)


def test_a_file_that_grows_at_its_end_sends_its_end(job: Job, content: bytes) -> None:
    syncer = job.syncer("one")
    job.write("log.bin", content)
    sync(syncer)
    job.write("log.bin", content + b"more")
    assert sync(syncer).bytes_uploaded == SIZE % PART + 4
    assert restored(job, "log.bin") == content + b"more"


def test_a_large_file_that_was_renamed_touched_or_copied_sends_nothing_also_after_a_restart(
    job: Job, content: bytes
) -> None:
    job.write("a", content)
    sync(job.syncer("one"))
    syncer = job.syncer("one")
    assert syncer.changes.changed(syncer.scan()) == []  # the file is not read
    (job.root / "one/a").rename(job.root / "one/b")
    done = sync(syncer)
    assert done.bytes_uploaded == 0
    assert done.snapshot is not None
    assert done.snapshot.files["b"].key == "a"
    os.utime(job.root / "one/b")
    job.write("c", content)
    assert sync(syncer).bytes_uploaded == 0
    assert list(job.store.unfinished_uploads()) == []
    assert restored(job, "c") == content


@pytest.mark.parametrize("drivers", [0, 3])
def test_two_large_files_of_one_content_travel_once_also_side_by_side(job: Job, content: bytes, drivers: int) -> None:
    with ThreadPoolExecutor(drivers or 1) as threads:
        job.drivers = threads if drivers else None
        syncer = job.syncer("one")
        job.write("a", content)
        job.write("b", content)
        assert sync(syncer).bytes_uploaded == SIZE


def test_the_parts_of_the_next_file_travel_while_a_file_is_completed(job: Job, content: bytes) -> None:
    begun = threading.Event()

    class Waits(DirectoryStore):
        """Completes the first upload when another one has begun."""

        def begin_upload(self, key: str, *, part_size: int, metadata: Mapping[str, str] | None = None) -> Upload:
            if list(self.unfinished_uploads()):
                begun.set()
            return super().begin_upload(key, part_size=part_size, metadata=metadata)

        def complete_upload(self, *args: Any, **options: Any) -> str:
            assert begun.wait(60)
            return super().complete_upload(*args, **options)

    with ThreadPoolExecutor(3) as threads:
        job.drivers = threads
        syncer = job.syncer("one", Waits(job.root / "store"))
        job.write("a", content)
        job.write("b", content[::-1])
        done = sync(syncer)
    assert done.unfinished == {}
    assert done.bytes_uploaded == 2 * SIZE
    assert restored(job, "b") == content[::-1]


def test_what_somebody_else_has_put_there_is_known(job: Job, content: bytes) -> None:
    (job.root / "store/pretrained.bin").write_bytes(content)
    syncer = job.syncer("one")
    (job.root / "one/pretrained.bin").rename(job.root / "one/renamed.bin")
    assert sync(syncer).bytes_uploaded == 0
    job.write("renamed.bin", patched(content, 0))  # its parts have been read by now
    assert sync(syncer).bytes_uploaded == PART
    assert restored(job, "renamed.bin") == patched(content, 0)


def test_parts_are_found_wherever_tidying_has_moved_them(job: Job, content: bytes) -> None:
    syncer = job.syncer("one", retention=Retention(last=1))
    job.write("model.bin", content)
    sync(syncer)
    for number in range(1, 6):
        content = patched(content, number % 4 * PART)
        job.write("model.bin", content)
        assert sync(syncer).bytes_uploaded == PART
        if number % 2:
            syncer.tidy()
    syncer.tidy()
    assert (job.root / "store/model.bin").read_bytes() == content
    assert len(list(job.store.list(".holdfast/objects/"))) == 1  # what the newest record names
    assert list(job.store.unfinished_uploads()) == []


@pytest.mark.parametrize("damage", ["deleted", "replaced"])
def test_a_source_that_is_no_longer_there_is_not_asked_twice_and_its_parts_travel(
    job: Job, content: bytes, damage: str
) -> None:
    def happens(source: str) -> None:
        path = job.root / "store" / source
        if damage == "deleted":
            path.unlink(missing_ok=True)
        elif path.stat().st_size == SIZE:
            path.write_bytes(b"another writer's")

    store = CopiesAre(job.root / "store", happens)
    syncer = job.syncer("one", store)
    job.write("model.bin", content)
    sync(syncer)
    changed = patched(content, 0)
    job.write("other.bin", changed)
    done = sync(syncer)
    assert done.unfinished == {}
    assert done.bytes_uploaded == SIZE
    assert 1 <= len(store.asked) <= 4  # no more than there are workers
    found = load_record(job.store, catalog.read_catalog(job.store).snapshots[-1])
    assert isinstance(found, Snapshot)
    assert (job.root / "store" / found.files["other.bin"].key).read_bytes() == changed


@pytest.mark.parametrize("refusal", [PermanentStoreError, AccessDeniedError])
def test_a_store_that_copies_no_parts_is_asked_once_and_gets_everything(
    job: Job, content: bytes, refusal: type[StoreError], logged: Logged
) -> None:
    def refuse(source: str) -> None:
        raise refusal("copying failed: HTTP 501 (NotImplemented)")

    store = CopiesAre(job.root / "store", refuse)
    syncer = job.syncer("one", store)
    job.write("model.bin", content)
    sync(syncer)
    asked = set()
    for number in range(2):
        content = patched(content, number)
        job.write("model.bin", content)
        done = sync(syncer)
        assert done.unfinished == {}
        assert done.bytes_uploaded >= SIZE
        asked.add(len(store.asked))
    assert asked <= {1, 2, 3, 4}  # as many as there are workers
    assert len(asked) == 1
    assert [text for text in logged() if "copies no parts" in text] == [logged()[-1]]
    assert list(store.unfinished_uploads()) == []
    assert restored(job, "model.bin") == content


def test_a_file_that_changes_while_its_parts_are_read_is_not_stored(job: Job, content: bytes) -> None:
    """Parts that were read at different times may be a content that never existed."""
    target = job.write("model.bin", content)
    asked: list[None] = []

    def change_late() -> bool:
        asked.append(None)
        if len(asked) == 4:
            with target.open("r+b") as file:
                file.write(b"changed")
        return False

    with ThreadPoolExecutor(1) as one_at_a_time:
        job.workers = one_at_a_time
        syncer = job.syncer("one")
        done = sync(syncer, stop=StopToken(when=change_late))
        assert done.snapshot is None
        assert "changed while it was read" in str(done.unfinished["model.bin"])
        assert [info.key for info in job.store.list("")] == [".holdfast/attempts/000001.json"]
        assert list(job.store.unfinished_uploads()) == []
        assert sync(syncer).bytes_uploaded == SIZE
