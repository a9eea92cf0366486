"""The engines, called directly: what one pass stores, and what a restore makes of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.logs import Logged
from tests.unit.job import Breaks, Job, sync

from holdfast.attempts import claim as attempt
from holdfast.errors import NoSnapshotError, PermanentStoreError, SupersededError, TransientStoreError
from holdfast.snapshot import catalog
from holdfast.stop import NEVER, StoppedError, StopToken
from holdfast.store import Condition, Metadata, Part
from holdfast.store.directory.store import DirectoryStore
from holdfast.sync.flush import Flush


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with ThreadPoolExecutor(4) as workers:
        yield Job(tmp_path, workers)


def test_only_what_changed_is_sent_and_nothing_twice(job: Job) -> None:
    syncer = job.syncer("one")
    job.write("a", b"12345")
    job.write("b", b"678")
    assert sync(syncer).bytes_uploaded == 8
    assert sync(syncer).snapshot is None
    job.write("b", b"changed")
    assert sync(syncer).bytes_uploaded == 7
    (job.root / "one/a").rename(job.root / "one/renamed")
    done = sync(syncer)
    assert done.bytes_uploaded == 0
    assert done.snapshot is not None
    assert sorted(done.snapshot.files) == ["b", "renamed"]
    os.utime(job.root / "one/b")
    assert sync(syncer).bytes_uploaded == 0


def test_what_waited_for_the_rest_of_its_checkpoint_is_committed_with_it(job: Job) -> None:
    refused: set[str] = set()

    def refuse(key: str) -> None:
        if key.rpartition("/")[2] in refused:
            raise PermanentStoreError("not this name")

    syncer = job.syncer("one", Breaks(job.root / "store", refuse))
    job.write("step/weights", b"weights 1")
    job.write("step/state", b"state 1")
    sync(syncer)
    job.write("step/weights", b"weights of 2")
    job.write("step/state", b"state of 2")
    refused.add("state")
    done = sync(syncer)
    assert done.snapshot is None
    assert done.unfinished.keys() == {"step/state"}
    refused.clear()
    assert [state.path for state in syncer.changes.changed(syncer.scan())] == ["step/state", "step/weights"]
    sync(syncer)
    job.restore("two")
    assert (job.root / "two/step/weights").read_bytes() == b"weights of 2"
    assert (job.root / "two/step/state").read_bytes() == b"state of 2"


def test_a_snapshot_stays_whole_when_its_files_are_overwritten(job: Job) -> None:
    syncer = job.syncer("one")
    job.write("last.ckpt", b"first")
    first = sync(syncer).snapshot
    job.write("last.ckpt", b"second")
    second = sync(syncer).snapshot
    assert first is not None
    assert second is not None
    assert (job.root / "store/last.ckpt").read_bytes() == b"first"
    assert second.files["last.ckpt"].key.startswith(".holdfast/objects/")
    job.restore("old", only=[first.name])
    job.restore("new")
    assert (job.root / "old/last.ckpt").read_bytes() == b"first"
    assert (job.root / "new/last.ckpt").read_bytes() == b"second"


def test_a_held_file_keeps_the_version_of_its_whole_checkpoint_and_no_others(job: Job) -> None:
    syncer = job.syncer("one")
    for path in ("step/a", "step/b", "other"):
        job.write(path, b"1")
    sync(syncer)
    for path in ("step/a", "step/b", "other"):
        job.write(path, b"22")
    done = sync(syncer, held=("step/b",))
    assert done.snapshot is not None
    assert {path: entry.size for path, entry in done.snapshot.files.items()} == {"step/a": 1, "step/b": 1, "other": 2}


def test_what_cannot_be_sent_in_time_is_named_and_the_rest_committed(job: Job) -> None:
    syncer = job.syncer("one")
    job.write("old", b"1")
    os.utime(job.root / "one/old", (1, 1))
    job.write("new", b"2")
    stored = job.root / "store/new"
    done = sync(syncer, stop=StopToken(when=stored.exists))  # the newest checkpoint goes first; then time is up
    assert done.snapshot is not None
    assert "new" in done.snapshot.files
    assert done.unfinished.keys() | done.snapshot.files.keys() == {"old", "new"}


def test_a_file_that_changes_while_it_is_sent_is_left_for_the_next_pass(job: Job) -> None:
    job.write("busy", b"before")

    times = iter(range(1))

    def grows(key: str) -> None:
        if key == "busy" and next(times, None) is not None:
            job.write("busy", b"after, and longer")

    syncer = job.syncer("one", Breaks(job.root / "store", grows))
    job.write("calm", b"calm")
    done = sync(syncer)
    assert list(done.unfinished) == ["busy"]
    assert done.snapshot is not None
    assert list(done.snapshot.files) == ["calm"]
    again = sync(syncer)
    assert again.snapshot is not None
    assert sorted(again.snapshot.files) == ["busy", "calm"]
    job.restore("two")
    assert (job.root / "two/busy").read_bytes() == b"after, and longer"


def test_a_store_that_fails_commits_nothing_and_what_it_has_is_not_sent_again(job: Job) -> None:
    times = iter(range(1))

    def fails(key: str) -> None:
        if key.startswith(".holdfast/commits") and next(times, None) is not None:
            raise PermanentStoreError("no")

    syncer = job.syncer("one", Breaks(job.root / "store", fails))
    job.write("a", b"12345")
    with pytest.raises(PermanentStoreError):
        sync(syncer)
    assert catalog.read_catalog(job.store).snapshots == ()
    done = sync(syncer)
    assert done.bytes_uploaded == 0
    assert done.snapshot is not None


def test_objects_of_an_attempt_that_died_before_its_commit_are_not_adopted(job: Job) -> None:
    def dies(key: str) -> None:
        if key.startswith(".holdfast/commits"):
            raise KeyboardInterrupt

    syncer = job.syncer("one", Breaks(job.root / "store", dies))
    job.write("shard-1", b"of a checkpoint that was never whole")
    with pytest.raises(KeyboardInterrupt):
        sync(syncer)
    assert (job.root / "store/shard-1").exists()
    assert job.restore("two").base.files == {}
    (job.root / "store/theirs").write_bytes(b"adopted")
    assert list(job.restore("three").base.files) == ["theirs"]


def test_a_zombie_commits_nothing_behind_its_successor_and_learns_of_it(job: Job) -> None:
    zombie = job.syncer("one")
    job.write("last", b"zombie", "one")
    sync(zombie)
    successor = job.syncer("two")
    assert (job.root / "two/last").read_bytes() == b"zombie"
    job.write("last", b"zombie again", "one")
    with pytest.raises(SupersededError, match="attempt 2 on h"):
        sync(zombie)
    job.write("last", b"successor", "two")
    sync(successor)
    job.restore("three")
    assert (job.root / "three/last").read_bytes() == b"successor"


def test_an_empty_directory_does_not_replace_a_snapshot(job: Job) -> None:
    syncer = job.syncer("one")
    job.write("a", b"1")
    sync(syncer)
    (job.root / "one/a").unlink()
    assert sync(syncer).snapshot is None
    assert list(job.restore("two").base.files) == ["a"]


def test_sixteen_containers_at_once_get_sixteen_attempts(job: Job) -> None:
    def claim(_: int) -> int:
        return attempt.claim(job.store, (), attempt.Claimant("h", "0", "local"), started=datetime.now(UTC)).number

    with ThreadPoolExecutor(16) as threads:
        assert sorted(threads.map(claim, range(16))) == list(range(1, 17))


def test_a_restore_that_was_cut_off_goes_on_where_it_was_and_shows_nothing_before(job: Job) -> None:
    syncer = job.syncer("one")
    for number in range(20):
        job.write(f"file-{number}", bytes([number]) * 1000)
    sync(syncer)
    fetched: list[int] = []

    def progress(done: int, total: int) -> None:
        fetched.append(done)

    with pytest.raises(StoppedError):
        job.restore("two", progress=progress, stop=StopToken(when=lambda: bool(fetched) and fetched[-1] >= 5000))
    assert [path.name for path in (job.root / "two").iterdir()] == [".holdfast"]
    rest = job.restore("two")
    assert rest.bytes_fetched <= 15_000
    assert (job.root / "two/file-7").read_bytes() == bytes([7]) * 1000
    assert not (job.root / "two/.holdfast").exists()


def test_links_in_the_way_are_moved_aside_and_never_followed(job: Job) -> None:
    syncer = job.syncer("one")
    job.write("dir/a", b"1")
    job.write("b", b"2")
    sync(syncer)
    outside = job.root / "outside"
    outside.mkdir()
    (job.root / "two").mkdir()
    (job.root / "two/dir").symlink_to(outside)
    (job.root / "two/b").symlink_to(outside / "b")
    job.restore("two")
    assert list(outside.iterdir()) == []
    assert (job.root / "two/dir/a").read_bytes() == b"1"
    assert not (job.root / "two/b").is_symlink()


def test_a_file_stands_where_a_directory_must_be_and_the_other_way_round(job: Job) -> None:
    syncer = job.syncer("one")
    job.write("x/a", b"1")
    job.write("y", b"2")
    sync(syncer)
    job.write("x", b"a file", "two")
    job.write("y/deep/b", b"in a directory", "two")
    job.restore("two")
    assert (job.root / "two/x/a").read_bytes() == b"1"
    assert (job.root / "two/y").read_bytes() == b"2"
    kept = {path.read_bytes() for path in (job.root / "two/.holdfast/displaced").rglob("*") if path.is_file()}
    assert kept == {b"a file", b"in a directory"}


def test_garbage_among_the_records_is_passed_over_aloud(job: Job, logged: Logged) -> None:
    syncer = job.syncer("one")
    job.write("a", b"1")
    sync(syncer)
    for name in ("000009-000001.json", "000009-000002.json", "latest.json", "000001-00001x.json"):
        (job.root / "store/.holdfast/commits" / name).write_bytes(b"\xff{" * 10)
    assert list(job.restore("two").base.files) == ["a"]
    assert sum("passed over" in text for text in logged()) == 2


def test_nothing_but_garbage_is_an_error(job: Job) -> None:
    (job.root / "store/.holdfast/commits").mkdir(parents=True)
    (job.root / "store/.holdfast/commits/000001-000001.json").write_text("{}")
    with pytest.raises(NoSnapshotError):
        job.restore("two")


def test_times_and_modes_come_back_and_a_file_is_always_writable_by_its_owner(job: Job) -> None:
    syncer = job.syncer("one")
    path = job.write("script.sh", b"1")
    path.chmod(0o555)
    os.utime(path, ns=(1, 1_234_567_890_123_456_789))
    sync(syncer)
    job.restore("two")
    status = (job.root / "two/script.sh").stat()
    assert status.st_mtime_ns == 1_234_567_890_123_456_789
    assert status.st_mode & 0o777 == 0o755


def test_an_adopted_file_is_not_taken_in_again_over_what_the_script_made_of_it(job: Job) -> None:
    (job.root / "store/model.pt").write_bytes(b"theirs")
    syncer = job.syncer("one")
    job.write("model.pt", b"trained further")
    sync(syncer)
    again = job.restore("two")
    assert (job.root / "two/model.pt").read_bytes() == b"trained further"
    assert again.foreign == frozenset()
    (job.root / "store/model.pt").write_bytes(b"theirs, and newer")
    assert job.restore("three").foreign == {"model.pt"}
    assert (job.root / "three/model.pt").read_bytes() == b"theirs, and newer"


def rot(path: Path) -> None:
    status = path.stat()
    with path.open("r+b") as file:
        file.write(b"\0")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_fallback_leaves_nothing_of_the_snapshot_that_failed(job: Job) -> None:
    syncer = job.syncer("one")
    job.write("a", b"old a")
    job.write("b", b"old b")
    job.write("x", b"a file")
    sync(syncer)
    job.restore("two")
    job.write("a", b"new a")
    job.write("b", b"new b")
    (job.root / "one/x").unlink()
    job.write("x/y", b"in a directory")
    newest = sync(syncer).snapshot
    assert newest is not None
    rot(job.root / "store" / newest.files["b"].key)
    done = job.restore("two")
    assert done.snapshot is not None
    assert done.snapshot.records[0].sequence == 1
    assert {path: (job.root / "two" / path).read_bytes() for path in ("a", "b", "x")} == {
        "a": b"old a",
        "b": b"old b",
        "x": b"a file",
    }


def test_a_record_whose_answer_was_lost_does_not_stop_the_next_commit(job: Job) -> None:
    class Forgets(DirectoryStore):
        def put(
            self, key: str, part: Part, *, metadata: Metadata | None = None, condition: Condition | None = None
        ) -> str:
            etag = super().put(key, part, metadata=metadata, condition=condition)
            if key.endswith("000001-000001.json"):
                raise TransientStoreError("no answer")
            return etag

    syncer = job.syncer("one", Forgets(job.root / "store"))
    job.write("a", b"1")
    with pytest.raises(TransientStoreError):
        sync(syncer)
    job.write("b", b"2")
    assert sync(syncer).snapshot is not None
    assert sorted(job.restore("two").base.files) == ["a", "b"]


def test_a_file_that_went_away_and_came_back_unchanged_is_no_surprise(job: Job) -> None:
    syncer = job.syncer("one")
    job.write("best", b"1")
    job.write("other", b"2")
    sync(syncer)
    (job.root / "one/best").rename(job.root / "elsewhere")
    assert syncer.changes.vanished(syncer.scan()) == ["best"]
    sync(syncer)
    (job.root / "elsewhere").rename(job.root / "one/best")
    done = sync(syncer)
    assert done.snapshot is not None
    assert sorted(done.snapshot.files) == ["best", "other"]


def test_one_file_that_cannot_be_stored_does_not_hold_back_the_others(job: Job) -> None:
    def refuses(key: str) -> None:
        if key.endswith("bad"):
            raise PermanentStoreError("this one not")

    syncer = job.syncer("one", Breaks(job.root / "store", refuses))
    job.write("bad", b"1")
    job.write("good", b"2")
    done = sync(syncer)
    assert list(done.unfinished) == ["bad"]
    assert done.snapshot is not None
    assert list(done.snapshot.files) == ["good"]


def test_a_flush_commits_the_newest_checkpoint_before_it_sends_the_next(job: Job) -> None:
    puts: list[str] = []
    syncer = job.syncer("one", Breaks(job.root / "store", puts.append))
    for number, path in enumerate(("old/a", "newer/a", "newest/a", "newest/b", "weights", "weights.json")):
        os.utime(job.write(path, path.encode()), (1000 + number // 2, 1000 + number // 2))
    done = Flush(syncer, stop=NEVER).once(syncer.scan(), ())
    assert done.snapshot is not None
    assert len(done.snapshot.files) == 6
    kinds = ["commit" if key.startswith(".holdfast/commits") else key.split("/")[0] for key in puts]
    # Files at the top level may belong to each other: they are one unit.
    assert kinds[:3] in (["weights", "weights.json", "commit"], ["weights.json", "weights", "commit"])
    # What else is so small that it takes no time needs no commit for each.
    assert sorted(kinds[3:7]) == ["newer", "newest", "newest", "old"]
    assert kinds[7:] == ["commit"]


def test_a_restore_leaves_no_empty_directory_that_a_script_would_take_for_a_checkpoint(job: Job) -> None:
    syncer = job.syncer("one")
    job.write("step-1/a", b"1")
    sync(syncer)
    job.restore("two")
    job.write("step-2/a", b"half of it", "two")
    (job.root / "two/step-3/deep").mkdir(parents=True)
    job.restore("two")
    assert sorted(path.name for path in (job.root / "two").iterdir()) == [".holdfast", "step-1"]
    kept = [path.read_bytes() for path in (job.root / "two/.holdfast").rglob("*") if path.is_file()]
    assert kept == [b"half of it"]


def test_one_name_that_a_server_refuses_holds_back_no_other(job: Job) -> None:
    def refuses(key: str) -> None:
        if key.endswith("bad name"):
            raise TransientStoreError("a page of a firewall")

    syncer = job.syncer("one", Breaks(job.root / "store", refuses))
    job.write("good", b"1")
    job.write("bad name", b"2")
    done = sync(syncer)
    assert done.snapshot is not None
    assert list(done.snapshot.files) == ["good"]
    assert list(done.unfinished) == ["bad name"]
    assert not done.snapshot.complete


def test_a_store_that_takes_nothing_is_an_error_of_the_store(job: Job) -> None:
    def refuses(key: str) -> None:
        raise TransientStoreError("down")

    syncer = job.syncer("one", Breaks(job.root / "store", refuses))
    job.write("a", b"1")
    job.write("b", b"2")
    with pytest.raises(TransientStoreError, match="down"):
        sync(syncer)


def test_what_somebody_has_put_over_a_file_of_the_snapshot_is_adopted_and_the_rest_restored(
    job: Job, logged: Logged
) -> None:
    job.write("model.pt", b"ours")
    job.write("optimizer.pt", b"ours too")
    sync(job.syncer("one"))
    (job.root / "store/model.pt").write_bytes(b"another writer's")
    done = job.restore("two")
    assert done.foreign == {"model.pt"}
    assert (job.root / "two/model.pt").read_bytes() == b"another writer's"
    assert (job.root / "two/optimizer.pt").read_bytes() == b"ours too"
    assert logged() == [], "nothing was passed over"
