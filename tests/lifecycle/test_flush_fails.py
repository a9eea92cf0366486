"""A last flush that fails: the exit code, and the names of what is missing."""

import sys

from tests.lifecycle.conftest import Start

BREAKS_THE_STORE = """
import os, pathlib, signal, sys, time
directory = pathlib.Path(os.environ["SM_CHECKPOINT_DIR"])
store = pathlib.Path(os.environ["CHECKPOINT_S3_URI"].removeprefix("file://"))

def breaks(*_):
    store.rename(store.with_name("gone"))
    store.write_text("no directory any more")
    (directory / "last.pt").write_bytes(b"last")
    sys.exit(0)

signal.signal(signal.SIGTERM, breaks)
print("ready", flush=True)
if sys.argv[1] == "end":
    breaks()
time.sleep(1000)
"""


def test_a_script_that_ended_well_with_a_flush_that_failed_is_an_alarm(start: Start) -> None:
    run = start(sys.executable, "-c", BREAKS_THE_STORE, "end")
    assert run.exit_code() == 74
    assert "'last.pt' is not stored:" in run.log


def test_an_interrupted_script_whose_files_were_not_stored_asks_to_be_run_again(start: Start) -> None:
    run = start(sys.executable, "-c", BREAKS_THE_STORE, "wait")
    run.wait_for_output("ready")
    run.signal()
    assert run.exit_code() == 75
    assert run.report["seconds_notice_to_durable"] is None


def test_a_store_that_fails_while_training_is_logged_and_used_again_when_it_is_back(start: Start) -> None:
    code = """
import os, pathlib, time
directory = pathlib.Path(os.environ["SM_CHECKPOINT_DIR"])
store = pathlib.Path(os.environ["CHECKPOINT_S3_URI"].removeprefix("file://"))
store.rename(store.with_name("aside"))
store.write_text("no directory any more")
(directory / "a.pt").write_bytes(b"a")
while not pathlib.Path("mended").exists():
    time.sleep(0.05)
store.unlink()
store.with_name("aside").rename(store)
"""
    run = start(sys.executable, "-c", code)
    run.wait_for_log("'a.pt' is not in the snapshot")
    (run.machine / "mended").touch()
    assert run.exit_code() == 0, run.log
    assert run.stored() == {"a.pt": b"a"}
