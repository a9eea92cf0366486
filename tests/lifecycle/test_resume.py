"""A job that is interrupted, and resumed from exactly what was committed."""

import json
import os
import sys
from pathlib import Path

from tests.lifecycle.conftest import Start
from tests.lifecycle.supervised import wait_until

COUNTS = """
import os, pathlib, signal, sys, time
import holdfast

directory = holdfast.checkpoint_dir()
resume = os.environ.get("HOLDFAST_RESUME")
start = int(pathlib.Path(resume).read_text()) if resume else 0
print(f"attempt {os.environ['HOLDFAST_ATTEMPT']} from {start}", flush=True)
for step in range(start + 1, int(sys.argv[1]) + 1):
    with holdfast.save(directory / f"step-{step}.txt") as temporary:
        temporary.write_text(str(step))
    if holdfast.interrupted():
        sys.exit(0)
    time.sleep(0.05)
"""


def rot(path: Path) -> None:
    """Flip a bit, as a bad disk does: time and size stay."""
    status = path.stat()
    with path.open("r+b") as file:
        first = file.read(1)[0]
        file.seek(0)
        file.write(bytes([first ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_second_attempt_on_an_empty_machine_continues_where_the_first_was_interrupted(start: Start) -> None:
    first = start(sys.executable, "-c", COUNTS, "100000", machine="one")
    first.wait_for("step-5.txt")
    first.signal()
    assert first.exit_code() == 143
    reached = max(int(name.split("-")[1].split(".")[0]) for name in first.stored())
    second = start(sys.executable, "-c", COUNTS, str(reached + 3), machine="two")
    assert second.exit_code() == 0, second.log
    assert f"attempt 2 from {reached}\n".encode() in second.stdout
    assert second.report["resumed_from"] == f"step-{reached}.txt"
    assert second.report["bytes_restored"] > 0
    assert len(second.stored()) == reached + 3


def test_a_machine_that_loses_its_power_loses_only_what_was_not_committed(start: Start) -> None:
    first = start(sys.executable, "-c", COUNTS, "100000", machine="one")
    wait_until(lambda: len(first.stored()) >= 5, "five steps are committed")
    first.vanish()
    committed = first.stored()
    second = start(sys.executable, "-c", COUNTS, "1", machine="two")
    assert second.exit_code() == 0, second.log
    restored = {path.name: path.read_bytes() for path in second.checkpoints.iterdir() if path.is_file()}
    assert committed.items() <= restored.items()


def test_files_overwritten_in_place_are_restored_as_one_snapshot(start: Start) -> None:
    overwrites = """
import os, pathlib, time
directory = pathlib.Path(os.environ["SM_CHECKPOINT_DIR"])
for step in range(1, 100000):
    for name in ("weights.h5", "metadata.json"):
        (directory / name).write_text(str(step))
    print(step, flush=True)
    time.sleep(1)
"""
    first = start(sys.executable, "-c", overwrites, machine="one")
    wait_until(lambda: len(list((first.store / ".holdfast/commits").glob("*.json"))) >= 3, "three snapshots")
    first.vanish()
    stored = first.stored()
    assert stored["weights.h5"] == stored["metadata.json"]
    second = start("true", machine="two")
    assert second.exit_code() == 0
    assert (second.checkpoints / "weights.h5").read_bytes() == stored["weights.h5"]
    assert (second.checkpoints / "metadata.json").read_bytes() == stored["metadata.json"]


def test_a_restart_with_nothing_changed_sends_and_commits_nothing(start: Start) -> None:
    start(sys.executable, "-c", COUNTS, "3", machine="one").exit_code()
    second = start("true", machine="two")
    assert second.exit_code() == 0
    assert (second.report["bytes_uploaded"], second.report["snapshots"]) == (0, 0)
    third = start("true", machine="two")  # the same disk again: nothing is fetched
    assert third.exit_code() == 0
    assert third.report["bytes_restored"] == 0
    assert third.report["files_restored"] == 3


def test_files_of_other_writers_are_adopted_and_not_deleted(start: Start) -> None:
    root = Path(start("true").store)
    (root / "foreign").mkdir()
    (root / "foreign/model.pt").write_bytes(b"from SageMaker")
    (root / "foreign/model.pt.sagemaker-uploaded").touch()
    run = start("true", machine="two")
    assert run.exit_code() == 0
    assert (run.checkpoints / "foreign/model.pt").read_bytes() == b"from SageMaker"
    assert not (run.checkpoints / "foreign/model.pt.sagemaker-uploaded").exists()
    assert (root / "foreign/model.pt").exists()


def test_deleting_the_directory_loses_nothing_that_was_committed(start: Start) -> None:
    start(sys.executable, "-c", COUNTS, "3", machine="one").exit_code()
    wipes = """
import os, pathlib, shutil, time
directory = pathlib.Path(os.environ["SM_CHECKPOINT_DIR"])
for name in ("step-1.txt", "step-2.txt"):
    (directory / name).unlink()
    time.sleep(1)  # long enough for a pass of the watch in between
shutil.rmtree(directory)
"""
    wiped = start(sys.executable, "-c", wipes, machine="two")
    assert wiped.exit_code() == 0
    assert "empty: the last snapshot stays" in wiped.log
    assert sorted(wiped.stored()) == ["step-1.txt", "step-2.txt", "step-3.txt"]


def test_conflicting_local_files_are_moved_aside_and_not_lost(start: Start) -> None:
    start(sys.executable, "-c", COUNTS, "2", machine="one").exit_code()
    stale = start("true", machine="two")
    stale.exit_code()
    (stale.checkpoints / "step-2.txt").write_text("a stale version")
    (stale.checkpoints / "step-9.txt").write_text("half of one")
    again = start("true", machine="two")
    assert again.exit_code() == 0
    assert (again.checkpoints / "step-2.txt").read_text() == "2"
    assert not (again.checkpoints / "step-9.txt").exists()
    moved = {path.name: path.read_text() for path in (again.checkpoints / ".holdfast/displaced").rglob("*.txt")}
    assert moved == {"step-2.txt": "a stale version", "step-9.txt": "half of one"}


def test_a_damaged_snapshot_is_passed_over_for_the_one_before_it(start: Start) -> None:
    first = start(sys.executable, "-c", COUNTS, "2", machine="one")
    first.exit_code()
    second = start(sys.executable, "-c", COUNTS, "3", machine="two")
    second.exit_code()
    rot(second.store / "step-3.txt")
    third = start(sys.executable, "-c", COUNTS, "0", machine="three")
    assert third.exit_code() == 0, third.log
    assert "passed over" in third.log
    assert third.report["files_restored"] == 2
    assert (third.checkpoints / "step-2.txt").exists()


def test_when_nothing_verifies_the_exit_is_65_and_the_directory_untouched(start: Start) -> None:
    first = start(sys.executable, "-c", COUNTS, "2", machine="one")
    first.exit_code()
    rot(first.store / "step-1.txt")
    second = start("touch", "started", machine="two")
    assert second.exit_code() == 65
    assert "no snapshot under the prefix verifies" in second.log
    assert [path.name for path in second.checkpoints.iterdir() if path.name != ".holdfast"] == []
    assert not (second.machine / "started").exists()


def test_the_record_is_the_last_object_of_a_commit(start: Start) -> None:
    run = start(sys.executable, "-c", COUNTS, "5")
    assert run.exit_code() == 0
    for path in (run.store / ".holdfast/commits").glob("*.json"):
        for entry in json.loads(path.read_text())["files"]:
            assert (run.store / entry["key"]).stat().st_mtime_ns <= path.stat().st_mtime_ns


def test_a_directory_is_committed_whole_however_slowly_its_shards_come_and_beside_an_open_log(start: Start) -> None:
    code = """
import os, pathlib, time
import holdfast
directory = holdfast.checkpoint_dir()
(directory / "run").mkdir()
log = (directory / "run/events.out.tfevents.1").open("wb", buffering=0)
for step in (1, 2):
    (directory / f"step-{step}").mkdir()
    for shard in range(4):
        (directory / f"step-{step}/shard-{shard}").write_bytes(b"1")
        log.write(b"an event")
        time.sleep(0.8)
    with holdfast.save(directory / "run/last.ckpt") as temporary:
        temporary.write_bytes(b"1")
    for _ in range(30):
        log.write(b"an event")
        time.sleep(0.2)
"""
    run = start(sys.executable, "-c", code)
    wait_until(lambda: any("step-1" in path for path in run.stored()), "the first step is committed")
    assert sum(path.startswith("step-1/") for path in run.stored()) == 4
    # The log beside it is never closed.
    wait_until(lambda: "run/last.ckpt" in run.stored(), "the checkpoint beside the log is committed")
    run.wait_for("step-2/shard-2")
    run.vanish()
    assert sum(path.startswith("step-2/") for path in run.stored()) in (0, 4)
