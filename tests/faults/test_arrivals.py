"""Whole lives that do not wait for their older checkpoints: what the script sees, and what befalls those on the way."""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.faults.conftest import Job
from tests.faults.proxy import Fault
from tests.lifecycle.conftest import Start
from tests.lifecycle.supervised import wait_until
from tests.servers import Answer

from holdfast.restore.plan import SMALL

FILES = ("model.bin", "optimizer.bin")

LOOKS = """
import os, pathlib, sys, time
import holdfast
directory = holdfast.checkpoint_dir()
def shown():
    return sorted(path.name for path in directory.iterdir() if not path.name.startswith("."))
print("from", pathlib.Path(os.environ["HOLDFAST_RESUME"]).name, holdfast.latest().name, *shown(), flush=True)
while set(sys.argv[1:]) - set(shown()) and not holdfast.interrupted():
    for name in shown():
        assert len(list((directory / name).iterdir())) == 2, name
    time.sleep(0.01)
print("at last", holdfast.latest().name, *shown(), flush=True)
"""
"""Says what it finds at its start, and again when the checkpoints that it is given are there: never half of one."""

ROTATES = """
import pathlib, shutil, time
import holdfast
directory = holdfast.checkpoint_dir()
def kept():
    return sorted(directory.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
with holdfast.save(directory / "checkpoint-4") as temporary:
    temporary.mkdir()
    for name in ("model.bin", "optimizer.bin"):
        (temporary / name).write_bytes(b"4" * 100)
print("written", flush=True)
deleted = set()
while len(deleted) < 2:
    for path in kept()[:-2]:
        shutil.rmtree(path)
        deleted.add(path.name)
    time.sleep(0.01)
print("deleted", *sorted(deleted), "left", *(path.name for path in kept()), flush=True)
"""
"""Keeps its last two checkpoints, as Hugging Face's Trainer does with `save_total_limit=2`."""


def content(path: str) -> bytes:
    return random.Random(path).randbytes(SMALL)


def checkpoints(*steps: int) -> dict[str, bytes]:
    return {f"checkpoint-{step}/{name}": content(f"checkpoint-{step}/{name}") for step in steps for name in FILES}


@pytest.fixture
def stored(job: Job, tmp_path: Path) -> Job:
    """A prefix with three checkpoints, the third of which is the newest."""
    for number, (path, text) in enumerate(checkpoints(1, 2, 3).items()):
        job.write(path, text)
        os.utime(tmp_path / "engine" / path, (1000 + number, 1000 + number))
    job.sync(job.syncer(job.past_the_proxy()))
    return job


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    opened = threading.Event()
    yield opened
    opened.set()


def latest(job: Job, **more: str | None) -> dict[str, str | None]:
    return job.environ(CHECKPOINT_RESTORE="latest", **more)


def held_back(job: Job, pattern: str, gate: threading.Event) -> Callable[[], bool]:
    """Hold back what is asked for, until the gate is opened; return what says whether it was asked for."""
    rule = job.proxy.always(f"GET .*{pattern}", Fault(first=gate.wait))
    return lambda: rule.fired > 0


def test_the_script_starts_with_the_newest_checkpoint_while_the_older_ones_are_still_held_back(
    start: Start, stored: Job, gate: threading.Event
) -> None:
    held_back(stored, "checkpoint-[12]/", gate)
    names = ("checkpoint-1", "checkpoint-2", "checkpoint-3")
    run = start(sys.executable, "-c", LOOKS, *names, environ=latest(stored))
    run.wait_for_output("from checkpoint-3 checkpoint-3 checkpoint-3\n")
    assert stored.files("one/ml/checkpoints") == checkpoints(3)
    gate.set()
    assert run.exit_code() == 0, run.log
    assert f"at last checkpoint-3 {' '.join(names)}\n".encode() in run.stdout
    assert stored.files("one/ml/checkpoints") == checkpoints(1, 2, 3)
    assert (run.report["files_restored"], run.report["bytes_uploaded"], run.report["snapshots"]) == (2, 0, 0)
    assert "2 of 2 have arrived" in run.log
    assert not (run.checkpoints / ".holdfast").exists()


def test_a_script_that_deletes_its_older_checkpoints_as_they_come_deletes_them_from_the_snapshot_too(
    start: Start, stored: Job, gate: threading.Event
) -> None:
    held_back(stored, "checkpoint-[12]/", gate)
    run = start(sys.executable, "-c", ROTATES, environ=latest(stored))
    run.wait_for_output("written")
    wait_until(lambda: any("checkpoint-4/" in key for key in list(stored.keys())), "the fourth is stored")
    gate.set()
    assert run.exit_code() == 0, run.log
    assert b"deleted checkpoint-1 checkpoint-2 left checkpoint-3 checkpoint-4" in run.stdout
    assert stored.restored() == checkpoints(3) | {f"checkpoint-4/{name}": b"4" * 100 for name in FILES}


def test_what_has_not_come_is_in_the_snapshots_of_a_script_that_ends_before(
    start: Start, stored: Job, gate: threading.Event
) -> None:
    held_back(stored, "checkpoint-[12]/", gate)
    writes = "import holdfast; (holdfast.checkpoint_dir() / 'last.bin').write_bytes(b'5' * 100)"
    run = start(sys.executable, "-c", writes, environ=latest(stored))
    assert run.exit_code() == 0, run.log
    assert run.report["bytes_uploaded"] == 100
    assert stored.restored() == checkpoints(1, 2, 3) | {"last.bin": b"5" * 100}


def test_a_notice_ends_the_arrival_at_once_and_leaves_nothing_half_in_place(
    start: Start, stored: Job, gate: threading.Event
) -> None:
    asked = held_back(stored, "checkpoint-2/optimizer", gate)
    run = start(sys.executable, "-c", LOOKS, "checkpoint-1", environ=latest(stored))
    run.wait_for_output("from checkpoint-3")
    wait_until(asked, "the second checkpoint is on its way")
    run.signal()
    assert run.exit_code() == 143, run.log
    assert stored.files("one/ml/checkpoints") == checkpoints(3)
    gate.set()
    assert stored.restored() == checkpoints(1, 2, 3)


def test_after_a_machine_went_down_in_an_arrival_only_whole_checkpoints_are_there_and_the_rest_goes_on(
    start: Start, stored: Job, gate: threading.Event
) -> None:
    asked = held_back(stored, "checkpoint-1/optimizer", gate)
    run = start(sys.executable, "-c", LOOKS, "checkpoint-1", environ=latest(stored))
    wait_until(asked, "the first checkpoint is on its way")
    wait_until(lambda: "checkpoint-2/model.bin" in stored.files("one/ml/checkpoints"), "the second one is there")
    staged = run.checkpoints / ".holdfast/staging/checkpoint-1/model.bin"
    wait_until(lambda: staged.exists() and staged.stat().st_mtime == 1000, "half of it is staged")
    run.vanish()
    assert stored.files("one/ml/checkpoints") == checkpoints(2, 3)
    gate.set()
    stored.proxy.mend()
    before = stored.proxy.asked("GET .*checkpoint-")
    again = start(sys.executable, "-c", LOOKS, "checkpoint-1", "checkpoint-2", environ=latest(stored))
    assert again.exit_code() == 0, again.log
    assert b"from checkpoint-3 checkpoint-3 " in again.stdout
    assert stored.files("one/ml/checkpoints") == checkpoints(1, 2, 3)
    assert stored.proxy.asked("GET .*checkpoint-") == before + 1


def test_a_damaged_older_checkpoint_is_told_and_holds_up_nobody(start: Start, stored: Job) -> None:
    def flip(answer: Answer) -> Answer:
        return replace(answer, body=bytes([answer.body[0] ^ 1]) + answer.body[1:])

    stored.proxy.always("GET .*checkpoint-2/model", Fault(down=flip))
    run = start(sys.executable, "-c", LOOKS, "checkpoint-1", environ=latest(stored))
    assert run.exit_code() == 0, run.log
    assert "older checkpoint 'checkpoint-2' does not arrive, and stays in the store as it is" in run.log
    assert stored.files("one/ml/checkpoints") == checkpoints(1, 3)
    assert stored.restored() == checkpoints(1, 2, 3)


def test_a_disk_that_takes_no_more_ends_the_arrival_and_not_the_script(start: Start, stored: Job) -> None:
    syncer = stored.syncer(stored.past_the_proxy())
    for path, text in {"checkpoint-0/model.bin": b"0" * 4 * SMALL, **checkpoints(3)}.items():
        stored.write(path, text)
    stored.sync(syncer)
    limit = ("prlimit", f"--fsize={2 * SMALL}")
    asks = "import holdfast, time\nwhile not holdfast.interrupted(): time.sleep(0.02)"
    run = start(sys.executable, "-c", asks, environ=latest(stored), under=limit)
    run.wait_for_log("no older checkpoint arrives from now on, they stay in the store")
    assert "checkpoint-0" not in [path.name for path in run.checkpoints.rglob("*")]
    run.signal()
    assert run.exit_code() == 143, run.log


def test_where_nothing_is_restored_nothing_is_asked_for_and_nothing_leaves_the_snapshots(
    start: Start, stored: Job
) -> None:
    writes = "import holdfast; assert holdfast.latest() is None; (holdfast.checkpoint_dir() / 'a.bin').write_text('5')"
    run = start(sys.executable, "-c", writes, environ=stored.environ(CHECKPOINT_RESTORE="none"))
    assert run.exit_code() == 0, run.log
    assert stored.proxy.asked("GET .*checkpoint-") == 0
    assert stored.restored() == checkpoints(1, 2, 3) | {"a.bin": b"5"}
