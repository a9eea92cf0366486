"""What a life had finished and could not send in time stays where it is, and the next life on the volume sends it."""

from __future__ import annotations

import json
import os
import queue
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.logs import Logged
from tests.unit.job import Job, sync
from watchdog.events import FileClosedEvent, FileMovedEvent, FileSystemEvent

from holdfast.restore.plan import Mode
from holdfast.script.checkpoints import latest
from holdfast.stop import StopToken
from holdfast.sync.flush import Flush
from holdfast.sync.syncer import Syncer
from holdfast.watch.events import EVENT_DELAY
from holdfast.watch.inotify import EventQueue, observe


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with ThreadPoolExecutor(1) as workers:
        made = Job(tmp_path, workers)
        (tmp_path / "one").mkdir()
        yield made


def cut_flush(syncer: Syncer, held: tuple[str, ...] = ()) -> None:
    """End a life whose time is up when its flush begins."""
    Flush(syncer, stop=StopToken(seconds_left=lambda: 0.0)).once(syncer.scan(), held)


def first_life(job: Job, machine: str = "one") -> Syncer:
    """Begin a life that has one snapshot behind it."""
    _, syncer = job.next_life(machine)
    job.write("epoch-1/weights", b"one", machine)
    job.write("epoch-1/index", b"one", machine)
    sync(syncer)
    return syncer


def left(job: Job, held: tuple[str, ...] = ()) -> None:
    """Let a life finish a second checkpoint, and end before it is sent."""
    syncer = first_life(job)
    job.write("epoch-2/weights", b"two")
    job.write("epoch-2/index", b"two")
    cut_flush(syncer, held)
    wait_for_the_disk(job)


def wait_for_the_disk(job: Job) -> None:
    """Wait until all that is noted has been brought to the disk."""
    over = time.monotonic() + 30
    while note(job).exists() and not unsent(job) <= durable(job):
        assert time.monotonic() < over
        time.sleep(0.01)


def note(job: Job) -> Path:
    return job.root / "one/.holdfast/unsent.jsonl"


def lines(job: Job) -> list[dict[str, Any]]:
    """Return the header of the note and what follows it."""
    return [json.loads(line) for line in note(job).read_text().splitlines()]


def unsent(job: Job) -> set[str]:
    """Return the checkpoints that are noted."""
    return {path.partition("/")[0] for line in lines(job) for path, *_ in line.get("files", ())}


def durable(job: Job) -> set[str]:
    """Return the checkpoints that are noted to be on the disk."""
    return {name for line in lines(job) for name in line.get("durable", ())}


def edit(job: Job, **changes: Any) -> None:
    """Change the header of the note."""
    header, *rest = lines(job)
    write(job, [header | changes, *rest])


def write(job: Job, noted: list[dict[str, Any]]) -> None:
    note(job).write_text("".join(f"{json.dumps(line)}\n" for line in noted))


def files(job: Job, machine: str = "one") -> dict[str, bytes]:
    root = job.root / machine
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".holdfast" not in path.parts
    }


def newest_record(job: Job) -> dict[str, bytes]:
    """Return the content of the newest snapshot, as a machine that has nothing gets it."""
    job.restore("fresh")
    return files(job, "fresh")


ONE = {"epoch-1/weights": b"one", "epoch-1/index": b"one"}
TWO = {"epoch-2/weights": b"two", "epoch-2/index": b"two"}


def is_moved_aside(job: Job) -> bool:
    found = [*(job.root / "one/.holdfast/displaced").rglob("epoch-2/*")]
    return bool(found) and not any(path.startswith("epoch-2/") for path in files(job))


def displaced(job: Job) -> list[str]:
    """Return the files in checkpoints that a restore on the first machine has moved aside."""
    found = (job.root / "one/.holdfast/displaced").rglob("*")
    return ["/".join(path.parts[-2:]) for path in found if path.is_file()]


@pytest.mark.parametrize("mode", Mode)
def test_what_was_finished_and_not_sent_is_the_newest_checkpoint_of_the_next_life(
    job: Job, mode: Mode, logged: Logged
) -> None:
    left(job)
    done, syncer = job.next_life("one", mode)
    assert [sorted(it.checkpoints) for it in done.kept] == [["epoch-2"]]
    assert latest(directory=job.root / "one") == job.root / "one/epoch-2"
    assert files(job) == ONE | TWO
    assert "attempt 1 had finished but not stored 'epoch-2': kept in the directory, uploaded now" in logged()
    assert sync(syncer).bytes_uploaded > 0
    assert newest_record(job) == ONE | TWO


def test_a_note_without_a_snapshot_counts_and_what_lay_beside_it_half_written_goes(job: Job) -> None:
    _, syncer = job.next_life("one")
    job.write("epoch-1/weights", b"whole")
    job.write("epoch-9/weights", b"ha")
    cut_flush(syncer, ("epoch-9/weights",))
    job.next_life("one")
    assert latest(directory=job.root / "one") == job.root / "one/epoch-1"
    assert displaced(job) == ["epoch-9/weights"]


def test_what_was_cut_off_by_a_kill_is_not_noted(job: Job) -> None:
    left(job, held=("epoch-2/index",))
    assert not note(job).exists()
    job.next_life("one")
    assert files(job) == ONE
    assert is_moved_aside(job)


def test_nothing_is_noted_when_everything_is_stored(job: Job) -> None:
    syncer = first_life(job)
    job.write("epoch-2/weights", b"two")
    Flush(syncer, stop=StopToken(seconds_left=lambda: 1000.0)).once(syncer.scan(), ())
    assert not (job.root / "one/.holdfast").exists()


def test_the_note_is_there_while_the_flush_is_still_going_on(job: Job) -> None:
    syncer = first_life(job)
    job.write("epoch-2/weights", b"two")
    seen: list[bool] = []

    def look() -> float:
        seen.append(note(job).exists())
        return 1000.0

    Flush(syncer, stop=StopToken(seconds_left=look)).once(syncer.scan(), ())
    assert any(seen)


def test_a_flush_that_is_killed_behind_its_first_commit_leaves_what_is_not_in_it(job: Job) -> None:
    left(job)
    before = note(job).read_bytes()
    _, syncer = job.next_life("one")
    job.write("epoch-3/weights", b"three")
    cut_flush(syncer)
    midway = note(job).read_bytes()
    sync(syncer, ("epoch-3/weights",))  # the commit of the first step
    note(job).write_bytes(midway)
    done, _ = job.next_life("one")
    assert before != midway
    assert [sorted(it.checkpoints) for it in done.kept] == [["epoch-3"]]
    assert files(job) == ONE | TWO | {"epoch-3/weights": b"three"}


def test_a_life_that_dies_before_it_has_sent_it_leaves_it_to_the_next(job: Job) -> None:
    left(job)
    job.next_life("one")
    job.write("epoch-3/weights", b"ha")  # and then the machine is gone
    job.next_life("one")
    assert displaced(job) == ["epoch-3/weights"]
    assert files(job) == ONE | TWO


def test_the_next_flush_leaves_it_once_more(job: Job) -> None:
    left(job)
    _, syncer = job.next_life("one")
    cut_flush(syncer)
    job.next_life("one")
    assert files(job) == ONE | TWO


def test_a_checkpoint_that_was_edited_meanwhile_is_moved_aside(job: Job) -> None:
    left(job)
    job.write("epoch-2/index", b"TWO")
    job.next_life("one")
    assert files(job) == ONE
    assert is_moved_aside(job)


def test_an_edit_that_hides_its_time_is_seen(job: Job) -> None:
    left(job)
    path = job.root / "one/epoch-2/index"
    status = path.stat()
    path.write_bytes(b"TWO")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    job.next_life("one")
    assert is_moved_aside(job)


def test_a_checkpoint_to_which_something_was_added_is_moved_aside(job: Job) -> None:
    left(job)
    job.write("epoch-2/more", b"")
    job.next_life("one")
    assert is_moved_aside(job)


def test_a_checkpoint_of_which_something_is_gone_is_moved_aside(job: Job) -> None:
    left(job)
    (job.root / "one/epoch-2/index").unlink()
    job.next_life("one")
    assert is_moved_aside(job)


def test_what_was_to_go_to_another_prefix_is_moved_aside_and_told(job: Job, logged: Logged) -> None:
    left(job)
    job.next_life("one", place="s3://another/prefix")
    assert is_moved_aside(job)
    assert any("it belongs to file:///store" in text for text in logged())


def test_when_another_machine_has_committed_meanwhile_its_snapshot_is_the_newest(job: Job, logged: Logged) -> None:
    left(job)
    _, elsewhere = job.next_life("two")
    job.write("epoch-2/weights", b"elsewhere", "two")
    sync(elsewhere)
    job.next_life("one")
    assert files(job) == ONE | {"epoch-2/weights": b"elsewhere"}
    assert any("not stored 'epoch-2'" in text and "another attempt has committed since" in text for text in logged())


def test_an_attempt_of_which_the_prefix_knows_nothing_left_nothing_here(job: Job) -> None:
    left(job)
    edit(job, attempt=7)
    job.next_life("one")
    assert is_moved_aside(job)


def test_after_a_loss_of_power_only_what_was_on_the_disk_counts(job: Job, logged: Logged) -> None:
    left(job)
    edit(job, boot="before the loss of power")
    done, _ = job.next_life("one")
    assert len(done.kept) == 1
    edit(job, boot="before the loss of power")
    write(job, [line for line in lines(job) if "durable" not in line])
    job.next_life("one")
    assert is_moved_aside(job)
    assert any("before it was known to be on the disk" in text for text in logged())


@pytest.mark.parametrize("text", ["", "{", "[]\n", '{"format": 2}\n', '{"format": 1}\n{"files": [[1]]}\n'])
def test_a_note_that_cannot_be_read_counts_for_nothing_and_is_told(job: Job, text: str, logged: Logged) -> None:
    left(job)
    note(job).write_text(text)
    job.next_life("one")
    assert is_moved_aside(job)
    assert any("unsent.jsonl cannot be read" in said for said in logged())


def test_a_checkpoint_that_is_provably_not_whole_is_moved_aside(job: Job, logged: Logged) -> None:
    syncer = first_life(job)
    job.write("epoch-2/model.safetensors", (1000).to_bytes(8, "little") + b'{"a"')
    cut_flush(syncer)
    assert note(job).exists()  # there was no time to look
    job.next_life("one")
    assert is_moved_aside(job)
    assert any("is not whole" in text for text in logged())


def test_files_that_are_overwritten_side_by_side_stay_together_or_go_together(job: Job) -> None:
    _, syncer = job.next_life("one")
    job.write("weights.h5", b"1")
    job.write("metadata.json", b"1")
    sync(syncer)
    job.write("weights.h5", b"22")
    job.write("metadata.json", b"22")
    job.write("log.txt", b"22")
    cut_flush(syncer)
    job.next_life("one")
    assert files(job) == {"weights.h5": b"22", "metadata.json": b"22", "log.txt": b"22"}
    job.write("metadata.json", b"of the user")
    job.next_life("one")
    assert files(job) == {"weights.h5": b"1", "metadata.json": b"1", "log.txt": b"22"}


def test_what_the_script_had_deleted_of_it_does_not_come_back(job: Job) -> None:
    syncer = first_life(job)
    job.write("epoch-1/weights", b"new")
    (job.root / "one/epoch-1/index").unlink()
    cut_flush(syncer)
    _, syncer = job.next_life("one")
    assert files(job) == {"epoch-1/weights": b"new"}
    sync(syncer)
    assert newest_record(job) == {"epoch-1/weights": b"new"}


def test_until_it_is_stored_the_snapshots_keep_what_was_committed_of_it(job: Job) -> None:
    syncer = first_life(job)
    job.write("epoch-1/weights", b"new")
    cut_flush(syncer)
    _, syncer = job.next_life("one")
    job.write("epoch-3/weights", b"three")
    sync(syncer, ("epoch-1/weights",))
    assert newest_record(job) == ONE | {"epoch-3/weights": b"three"}
    sync(syncer)
    assert newest_record(job) == ONE | {"epoch-3/weights": b"three", "epoch-1/weights": b"new"}


def test_new_content_of_the_same_size_and_time_is_sent(job: Job) -> None:
    syncer = first_life(job)
    weights = job.root / "one/epoch-1/weights"
    status = weights.stat()
    job.write("epoch-1/weights", b"NEW")
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    cut_flush(syncer)
    _, syncer = job.next_life("one")
    sync(syncer)
    assert newest_record(job) == {"epoch-1/weights": b"NEW", "epoch-1/index": b"one"}


def test_what_somebody_else_has_put_into_the_store_under_its_name_goes_first(job: Job, logged: Logged) -> None:
    left(job)
    (job.root / "store/epoch-2").mkdir()
    (job.root / "store/epoch-2/weights").write_bytes(b"from SageMaker")
    job.next_life("one")
    assert files(job) == ONE | {"epoch-2/weights": b"from SageMaker"}
    assert any("'epoch-2': not used, another writer" in text for text in logged())


def test_a_link_to_what_the_restore_may_replace_is_moved_aside(job: Job) -> None:
    syncer = first_life(job)
    job.write("epoch-2/weights", b"two")
    (job.root / "one/epoch-2/index").symlink_to("../epoch-1/index")
    cut_flush(syncer)
    job.next_life("one")
    assert is_moved_aside(job)


def test_a_link_to_what_stays_stays_too(job: Job) -> None:
    syncer = first_life(job)
    job.write("step-2.pt", b"two")
    (job.root / "one/last.pt").symlink_to("step-2.pt")
    cut_flush(syncer)
    job.next_life("one")
    assert files(job) == ONE | {"step-2.pt": b"two", "last.pt": b"two"}
    job.write("step-2.pt", b"TWO")
    job.next_life("one")
    assert files(job) == ONE


def test_many_checkpoints_are_noted_together_and_not_one_by_one(job: Job, logged: Logged) -> None:
    syncer = first_life(job)
    for number in range(500):
        job.write(f"{number:03d}.pt", b"%d" % number)
    events: EventQueue = queue.SimpleQueue()
    stop = observe(job.root / "one", events, on_overflow=lambda: pytest.fail("too many events"))
    assert stop is not None
    began = time.monotonic()
    cut_flush(syncer)
    wait_for_the_disk(job)
    time.sleep(EVENT_DELAY)
    took = time.monotonic() - began
    stop()
    seen = [entry[1] for entry in (events.get() for _ in range(events.qsize())) if entry is not None]
    begun: list[FileSystemEvent] = [
        it for it in seen if isinstance(it, FileMovedEvent) and str(it.dest_path) == str(note(job))
    ]
    written = begun + [it for it in seen if isinstance(it, FileClosedEvent) and str(it.src_path) == str(note(job))]
    assert 0 < len(written) <= 4 + took
    assert len(durable(job)) == len(unsent(job)) == 500
    done, _ = job.next_life("one")
    assert len(done.kept) == 500
    assert sum("had finished but not stored" in text for text in logged()) == 1
