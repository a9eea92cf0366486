"""Lists of the files of a large snapshot: a commit writes those that changed, and no needed one is deleted."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.logs import Logged
from tests.unit.job import Breaks, Job, sync

from holdfast.attempts import claim, fence
from holdfast.errors import DamagedError, TransientStoreError
from holdfast.maintenance.retention import Retention
from holdfast.snapshot import catalog
from holdfast.snapshot import file_lists as lists
from holdfast.snapshot.record import FileEntry, Snapshot
from holdfast.snapshot.records import load_record
from holdfast.store import Store
from holdfast.sync.assemble import Engine, assemble
from holdfast.sync.syncer import Syncer


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    monkeypatch.setattr(lists, "MEAN", 4)
    with ThreadPoolExecutor(4) as workers:
        yield Job(tmp_path, workers)


def syncer(job: Job, machine: str, store: Store | None = None, last: int = 3) -> Syncer:
    """Begin an attempt in which every snapshot is listed."""
    found = catalog.read_catalog(job.store)
    claimed = claim.claim(job.store, found.attempts, claim.Claimant("h", "0", "local"), started=datetime.now(UTC))
    fence.fence(job.store, found, claimed)
    return assemble(
        Engine(store=store or job.store, workers=job.workers, clock=lambda: datetime.now(UTC)),
        job.root / machine,
        claimed,
        job.restore(machine).base,
        retention=Retention(last=last),
        most_inline=0,
    )


def write_many(job: Job, count: int = 40) -> None:
    for number in range(count):
        job.write(f"step/{number:03d}", str(number).encode())


def listed(job: Job) -> dict[str, bytes]:
    """Return the lists that are in the store."""
    root = job.root / "store"
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.glob(".holdfast/lists/*/*")}


def newest(job: Job) -> Snapshot:
    name = catalog.read_catalog(job.store).snapshots[-1]
    loaded = load_record(job.store, name)
    assert isinstance(loaded, Snapshot)
    return loaded


def entry(path: str, content: int = 0) -> FileEntry:
    return FileEntry(
        path=path, size=5, mtime_ns=1_700_000_000_000_000_000, mode=0o644, crc64nvme=content, key=path, etag='"etag"'
    )


names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20)


@given(st.lists(names, unique=True, min_size=1))
def test_what_is_packed_is_what_is_unpacked(paths: list[str]) -> None:
    entries = tuple(entry(path) for path in sorted(paths))
    assert lists.unpack(lists.pack(entries), key="k") == entries


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 30_000), st.sampled_from(("changed", "added", "removed")))
def test_one_file_makes_one_new_list_and_its_removal_two_at_most(number: int, what: str) -> None:
    files = {path: entry(path) for path in (f"step-{number // 100}/{number:06d}" for number in range(30_000))}
    before = set(lists.cut(files))
    path = f"step-{number // 100}/{number:06d}" if number < 30_000 else "step-299/x"
    if what == "removed":
        files.pop(path, None)
    else:
        changed = path if what == "changed" else f"{path}-added"
        files[changed] = entry(changed, 1)
    after = set(lists.cut(files))
    assert len(after - before) <= 2
    assert sorted(path for piece in after for path in (it.path for it in piece)) == sorted(files)


def test_a_list_ends_where_its_entries_are_long() -> None:
    files = {path: entry(path) for path in (f"{'d' * 200}/{'d' * 200}/{number:06d}" for number in range(40_000))}
    assert max(len(gzip.decompress(lists.pack(piece))) for piece in lists.cut(files)) < 64 << 20


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        gzip.compress(b"[]")[:-1],
        gzip.compress(b"[]") + b"more",
        gzip.compress(b"{}"),
        gzip.compress(b"[1]"),
        gzip.compress(b"[" * 100_000),
        gzip.compress(b'[{"path": "a"}]'),
        gzip.compress(bytes(65 << 20)),
    ],
)
def test_what_is_no_list_is_a_damaged_one(data: bytes) -> None:
    with pytest.raises(DamagedError):
        lists.unpack(data, key="k")


def test_a_commit_writes_the_lists_that_changed(job: Job) -> None:
    write_many(job)
    one = syncer(job, "one")
    sync(one)
    first = listed(job)
    assert len(first) > 3
    assert json.loads((job.root / "store/.holdfast/commits/000001-000001.json").read_bytes())["files"] == []
    job.write("step/007", b"changed")
    sync(one)
    assert len(listed(job).keys() - first.keys()) == 1
    assert newest(job).files.keys() == {f"step/{number:03d}" for number in range(40)}


def test_the_next_attempt_continues_with_the_lists_of_the_snapshot_that_it_restored(job: Job) -> None:
    write_many(job)
    sync(syncer(job, "one"))
    first = listed(job)
    two = syncer(job, "two")
    job.write("step/007", b"changed", "two")
    sync(two)
    two.tidy()
    assert len(listed(job).keys() - first.keys()) == 1
    assert {it.key for it in newest(job).lists} & first.keys()
    job.restore("three")
    assert (job.root / "three/step/007").read_bytes() == b"changed"
    assert (job.root / "three/step/039").read_bytes() == b"39"


def test_with_a_snapshot_the_lists_are_deleted_that_no_other_names(job: Job) -> None:
    write_many(job)
    one = syncer(job, "one", last=1)
    sync(one)
    job.write("step/007", b"changed")
    sync(one)
    one.tidy()
    assert listed(job).keys() == {it.key for it in newest(job).lists}
    again = syncer(job, "two", last=1)
    for number in range(40):
        job.write(f"step/{number:03d}", b"all new", "two")
    sync(again)
    again.tidy()
    assert listed(job).keys() == {it.key for it in newest(job).lists}
    assert {key.split("/")[2] for key in listed(job)} == {"000002-000001"}


def test_lists_of_a_failed_commit_are_used_by_the_next_or_deleted(job: Job) -> None:
    write_many(job)
    times = iter([None])

    def fail(key: str) -> None:
        if key.startswith(".holdfast/commits/") and next(times, 1) is None:
            raise TransientStoreError("the record does not get through")

    one = syncer(job, "one", Breaks(job.root / "store", fail))
    with pytest.raises(TransientStoreError):
        sync(one)
    before = listed(job)
    job.write("step/007", b"changed")
    sync(one)
    assert len(listed(job).keys() - before.keys()) == 1
    one.tidy()
    assert listed(job).keys() == {it.key for it in newest(job).lists}


def test_lists_that_a_killed_attempt_left_without_a_record_are_deleted_after_the_first_commit_of_the_next(
    job: Job,
) -> None:
    write_many(job)

    def die(key: str) -> None:
        if key.startswith(".holdfast/commits/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sync(syncer(job, "one", Breaks(job.root / "store", die)))
    assert listed(job)
    two = syncer(job, "two")
    job.write("a", b"a", "two")
    sync(two)
    two.tidy()
    assert listed(job).keys() == {it.key for it in newest(job).lists}


@pytest.mark.parametrize("damage", ["missing", "cut", "of another snapshot"])
def test_a_snapshot_with_a_damaged_list_is_skipped_with_a_warning(job: Job, damage: str, logged: Logged) -> None:
    write_many(job)
    one = syncer(job, "one")
    sync(one)
    job.write("step/007", b"changed")
    before = listed(job)
    sync(one)
    (key,) = listed(job).keys() - before.keys()
    path = job.root / "store" / key
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] if damage == "cut" else (job.root / "store" / min(before)).read_bytes())
    done = job.restore("two")
    assert done.snapshot is not None
    assert done.snapshot.name == "000001-000001"
    assert any("passed over" in text and "list" in text for text in logged())
    assert (job.root / "two/step/007").read_bytes() == b"7"


def test_a_record_that_lists_itself_follows_one_that_does_not_and_the_other_way_round(job: Job) -> None:
    write_many(job)
    sync(syncer(job, "one"))
    inline = job.syncer("two")
    job.write("a", b"a", "two")
    sync(inline)
    assert not newest(job).lists
    three = syncer(job, "three", last=1)
    job.write("b", b"b", "three")
    sync(three)
    three.tidy()
    assert listed(job).keys() == {it.key for it in newest(job).lists}
    assert newest(job).files.keys() >= {"a", "b", "step/039"}
