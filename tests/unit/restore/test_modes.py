"""What is restored before the script starts, what arrives behind it, and what stays in the store by choice."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.logs import Logged
from tests.unit.job import Job, Reads, sync

from holdfast.restore.plan import SMALL, TOGETHER, Mode, split
from holdfast.script.checkpoints import latest
from holdfast.snapshot.record import FileEntry

LARGE = SMALL + 1
SECOND = 1_000_000_000


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with ThreadPoolExecutor(4) as workers:
        yield Job(tmp_path, workers)


def file(path: str, seconds: float, size: int = LARGE) -> FileEntry:
    return FileEntry(
        path=path, size=size, mtime_ns=int(seconds * SECOND), mode=0o644, crc64nvme=0, key=path, etag="etag"
    )


def first(*files: FileEntry) -> list[str]:
    now, later = split(files, Mode.LATEST)
    assert sorted(path for checkpoint in now + later for path in checkpoint.files) == sorted(
        file.path for file in files
    )
    return sorted(path for checkpoint in now for path in checkpoint.files)


def test_all_of_the_newest_directory_comes_first_and_the_older_ones_behind_it_newest_first() -> None:
    files = [file(f"checkpoint-{step}/{name}", step) for step in (8, 9, 10) for name in ("model.pt", "optimizer.pt")]
    now, later = split(files, Mode.LATEST)
    assert [unit.name for unit in now] == ["checkpoint-10"]
    assert [unit.name for unit in later] == ["checkpoint-9", "checkpoint-8"]


def test_what_was_written_beside_the_newest_file_comes_with_it() -> None:
    beside = TOGETHER / SECOND
    assert first(file("a.pt", 100), file("optimizer.bin", 100 - beside), file("older.pt", 99.9 - beside)) == [
        "a.pt",
        "optimizer.bin",
    ]


def test_what_a_script_goes_on_with_comes_first_however_old_and_large() -> None:
    needed = [file("latest", 1, 20), file("log.csv", 1), file("runs/events.out.tfevents.1", 1), file("vocab/a", 1, 9)]
    assert first(file("step-2/a", 100), file("step-1/a", 50), *needed) == sorted(
        ["step-2/a", *(file.path for file in needed)]
    )


def test_where_nothing_is_a_checkpoint_everything_comes_first() -> None:
    assert first(file("log.csv", 1), file("empty.pt", 2, 0), file("tmp-step/a", 3)) == [
        "empty.pt",
        "log.csv",
        "tmp-step/a",
    ]


def write(job: Job, path: str, seconds: int, machine: str = "one") -> None:
    content = path.encode() * (LARGE // len(path) + 1)
    os.utime(job.write(path, content, machine), (seconds, seconds))


def rot(path: Path) -> None:
    """Turn a byte as a bad disk does: no time and no size changes."""
    status = path.stat()
    with path.open("r+b") as file:
        file.write(b"\0")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def three_steps(job: Job) -> None:
    syncer = job.syncer("one")
    for step in (1, 2, 3):
        for name in ("model.pt", "deep/optimizer.pt"):
            write(job, f"step-{step}/{name}", step)
    sync(syncer)


def tree(job: Job, machine: str) -> list[str]:
    root = job.root / machine
    paths = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if path.parts[0] != ".holdfast")


def of_steps(*steps: int) -> list[str]:
    return [f"step-{step}/{name}" for step in steps for name in ("deep/optimizer.pt", "model.pt")]


def committed(job: Job) -> list[str]:
    """Return the files of the newest snapshot, all of which a machine that starts afresh must get."""
    shutil.rmtree(job.root / "looks", ignore_errors=True)
    job.restore("looks")
    return tree(job, "looks")


def test_the_newest_checkpoint_is_there_first_and_the_older_ones_follow_and_none_is_sent_again(job: Job) -> None:
    three_steps(job)
    done, syncer, background = job.resumed("two", Mode.LATEST)
    assert tree(job, "two") == of_steps(3)
    assert done.bytes_fetched < 3 * LARGE
    assert latest(directory=job.root / "two") == job.root / "two/step-3"
    write(job, "step-4/model.pt", 4, "two")
    assert sync(syncer).snapshot is not None
    assert committed(job) == [*of_steps(1, 2, 3), "step-4/model.pt"]
    background.run()
    assert tree(job, "two") == [*of_steps(1, 2, 3), "step-4/model.pt"]
    assert latest(directory=job.root / "two") == job.root / "two/step-4"
    again = sync(syncer)
    assert (again.snapshot, again.bytes_uploaded) == (None, 0)
    assert not (job.root / "two/.holdfast/staging").exists()


def test_what_stays_in_the_store_stays_in_the_snapshots_that_follow(job: Job) -> None:
    three_steps(job)
    done, syncer, background = job.resumed("two", Mode.NONE)
    background.run()
    assert (tree(job, "two"), done.bytes_fetched) == ([], 0)
    assert sync(syncer).snapshot is None
    write(job, "step-9/model.pt", 9, "two")
    assert sync(syncer).snapshot is not None
    assert committed(job) == [*of_steps(1, 2, 3), "step-9/model.pt"]
    (job.root / "two/step-9/model.pt").unlink()
    assert sync(syncer).snapshot is None  # an empty directory is no state to commit


def test_what_an_earlier_life_has_left_on_the_disk_counts_as_restored_and_half_of_a_checkpoint_does_not(
    job: Job,
) -> None:
    three_steps(job)
    (job.root / "one/step-2/model.pt").unlink()
    write(job, "step-5/model.pt", 5)  # never committed
    done, syncer, _ = job.resumed("one", Mode.NONE)
    assert tree(job, "one") == of_steps(1, 3)
    assert done.bytes_fetched == 0
    assert syncer.changes.changed(syncer.scan()) == []
    assert syncer.changes.vanished(syncer.scan()) == []


def test_older_checkpoints_on_the_disk_of_an_earlier_life_come_back_without_travelling(job: Job) -> None:
    three_steps(job)
    done, _, background = job.resumed("one", Mode.LATEST)
    assert tree(job, "one") == of_steps(3)  # the others have no checksum yet
    store, fetched = job.root / "store", done.bytes_fetched
    shutil.rmtree(store / "step-1")
    shutil.rmtree(store / "step-2")
    background.run()
    assert fetched == 0
    assert tree(job, "one") == of_steps(1, 2, 3)
    assert not (job.root / "one/.holdfast/displaced").exists()


def test_a_checkpoint_that_the_script_writes_itself_replaces_the_absent_one_as_a_whole(job: Job) -> None:
    three_steps(job)
    _, syncer, background = job.resumed("two", Mode.LATEST)
    write(job, "step-2/model.pt", 20, "two")
    background.run()
    assert tree(job, "two") == [*of_steps(1), "step-2/model.pt", *of_steps(3)]
    sync(syncer)
    assert committed(job) == tree(job, "two")


def test_a_checkpoint_that_arrived_and_was_deleted_leaves_the_snapshot_and_does_not_come_again(job: Job) -> None:
    three_steps(job)
    _, syncer, background = job.resumed("two", Mode.LATEST)
    background.run()
    shutil.rmtree(job.root / "two/step-1")  # no scan came between the two
    assert sorted(syncer.changes.vanished(syncer.scan())) == of_steps(1)
    sync(syncer)
    assert committed(job) == of_steps(2, 3)


def test_what_the_script_changes_in_what_arrived_is_stored(job: Job) -> None:
    three_steps(job)
    _, syncer, background = job.resumed("two", Mode.LATEST)
    background.run()
    write(job, "step-1/model.pt", 30, "two")
    done = sync(syncer)
    assert done.snapshot is not None
    assert done.snapshot.files["step-1/model.pt"].mtime_ns == 30 * SECOND
    assert committed(job) == of_steps(1, 2, 3)


def test_nothing_arrives_in_a_directory_that_the_script_has_cleared(job: Job) -> None:
    three_steps(job)
    _, syncer, background = job.resumed("two", Mode.LATEST)
    for path in (job.root / "two").iterdir():
        if path.name != ".holdfast":
            shutil.rmtree(path)
    background.run()
    assert tree(job, "two") == []
    assert sync(syncer).snapshot is None
    assert committed(job) == of_steps(1, 2, 3)


def test_nothing_arrives_where_the_directory_itself_is_gone(job: Job, logged: Logged) -> None:
    three_steps(job)
    _, syncer, background = job.resumed("two", Mode.LATEST)
    shutil.rmtree(job.root / "two")
    background.run()
    assert not (job.root / "two/step-2").exists()
    assert any("no older checkpoint arrives" in text for text in logged())
    assert sync(syncer).snapshot is None


def test_a_damaged_older_checkpoint_does_not_arrive_and_stays_in_the_snapshots(job: Job, logged: Logged) -> None:
    three_steps(job)
    rot(job.root / "store/step-2/model.pt")
    _, syncer, background = job.resumed("two", Mode.LATEST)
    background.run()
    assert tree(job, "two") == of_steps(1, 3)
    assert any("'step-2' does not arrive" in text for text in logged())
    write(job, "step-4/model.pt", 4, "two")
    done = sync(syncer)
    assert done.snapshot is not None
    assert set(of_steps(1, 2, 3)) < done.snapshot.files.keys()


def test_a_damaged_newest_checkpoint_makes_the_snapshot_before_it_the_one(job: Job) -> None:
    syncer = job.syncer("one")
    write(job, "step-1/model.pt", 1)
    sync(syncer)
    write(job, "step-2/model.pt", 2)
    sync(syncer)
    rot(job.root / "store/step-2/model.pt")
    done, *_ = job.resumed("two", Mode.LATEST)
    assert done.base.passed_over == ("000001-000002",)
    assert tree(job, "two") == ["step-1/model.pt"]


def test_after_a_stop_nothing_is_put_in_place_and_the_next_life_has_what_was_fetched(job: Job) -> None:
    three_steps(job)
    done, syncer, _ = job.resumed("two", Mode.LATEST)

    def stops(key: str) -> None:
        if key.startswith("step-2"):
            background.stop()

    background = job.background("two", done, syncer, Reads(job.root / "store", stops))
    background.run()
    assert tree(job, "two") == of_steps(3)
    assert list((job.root / "two/.holdfast/staging").rglob("*.pt"))
    assert job.restore("two").bytes_fetched < 4 * LARGE
    assert tree(job, "two") == of_steps(1, 2, 3)


def test_room_for_the_next_checkpoint_stays_free(job: Job, monkeypatch: pytest.MonkeyPatch, logged: Logged) -> None:
    three_steps(job)
    _, _, background = job.resumed("two", Mode.LATEST)
    free = os.statvfs(job.root)
    usage = type(shutil.disk_usage(job.root))(free.f_blocks, 0, 4 * LARGE)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    background.run()
    assert tree(job, "two") == of_steps(3)
    assert any("kept free for the next checkpoint" in text for text in logged())


def test_top_level_files_arrive_one_by_one_and_never_over_what_the_script_has_made(job: Job) -> None:
    syncer = job.syncer("one")
    for number in (10, 20, 30):
        write(job, f"epoch-{number}.pt", number)
    sync(syncer)
    _, syncer, background = job.resumed("two", Mode.LATEST)
    assert tree(job, "two") == ["epoch-30.pt"]
    job.write("epoch-20.pt", b"made again", "two")
    background.run()
    assert tree(job, "two") == ["epoch-10.pt", "epoch-20.pt", "epoch-30.pt"]
    assert (job.root / "two/epoch-20.pt").read_bytes() == b"made again"
    done = sync(syncer)
    assert done.bytes_uploaded == len(b"made again")


def test_content_that_was_tidied_to_another_key_meanwhile_still_arrives(job: Job) -> None:
    syncer = job.syncer("one")
    write(job, "best.pt", 1)
    sync(syncer)
    os.utime(job.write("best.pt", b"2" * LARGE), (2, 2))  # its plain key is taken: it goes to a content key
    write(job, "step-9.pt", 90)
    sync(syncer)
    _, syncer, background = job.resumed("two", Mode.LATEST)
    for number in range(5):  # the upkeep copies it to its plain key, and deletes the content key
        job.write("log.txt", b"x" * number, "two")
        sync(syncer)
        syncer.tidy()
    assert not list((job.root / "store/.holdfast/objects").rglob("best.pt"))
    background.run()
    assert (job.root / "two/best.pt").read_bytes() == b"2" * LARGE


def test_what_somebody_else_wrote_is_adopted_when_it_arrives(job: Job) -> None:
    for step in (1, 2):
        write(job, f"step-{step}/model.pt", step, "store")
    done, syncer, background = job.resumed("two", Mode.LATEST)
    assert done.foreign == {"step-2/model.pt"}
    background.run()
    write(job, "step-3/model.pt", 3, "two")
    third = sync(syncer)
    assert third.snapshot is not None
    assert third.bytes_uploaded == (job.root / "two/step-3/model.pt").stat().st_size
    assert sorted(third.snapshot.files) == ["step-1/model.pt", "step-2/model.pt", "step-3/model.pt"]
    assert third.snapshot.adopted.keys() == {"step-1/model.pt", "step-2/model.pt"}


def test_what_the_script_makes_of_what_somebody_else_wrote_and_did_not_arrive_is_what_counts(job: Job) -> None:
    write(job, "model.pt", 1, "store")
    _, syncer, _ = job.resumed("two", Mode.NONE)
    job.write("model.pt", b"trained anew", "two")
    done = sync(syncer)
    assert done.snapshot is not None
    assert done.snapshot.adopted.keys() == {"model.pt"}
    job.restore("three")
    assert (job.root / "three/model.pt").read_bytes() == b"trained anew"


def test_a_kill_between_two_arrivals_leaves_whole_checkpoints_only(job: Job) -> None:
    three_steps(job)
    done, syncer, _ = job.resumed("two", Mode.LATEST)

    def dies(key: str) -> None:
        if key.startswith("step-1/deep"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.background("two", done, syncer, Reads(job.root / "store", dies)).run()
    assert tree(job, "two") == of_steps(2, 3)
    done, syncer, background = job.resumed("two", Mode.LATEST)
    assert tree(job, "two") == of_steps(3)
    background.run()
    assert tree(job, "two") == of_steps(1, 2, 3)
    assert syncer.changes.changed(syncer.scan()) == []


def test_attempts_that_restore_differently_follow_each_other(job: Job) -> None:
    three_steps(job)
    for number, mode in enumerate((Mode.NONE, Mode.LATEST, Mode.NONE, Mode.ALL), start=4):
        _, syncer, _ = job.resumed(f"machine-{number}", mode)
        write(job, f"step-{number}/model.pt", number, f"machine-{number}")
        sync(syncer)
    assert committed(job) == [*of_steps(1, 2, 3), *(f"step-{number}/model.pt" for number in (4, 5, 6, 7))]
