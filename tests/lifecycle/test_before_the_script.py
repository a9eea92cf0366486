"""Before the script: a signal during the restore, a full disk, a job that SageMaker manages."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.demo.object_server import serve_objects
from tests.lifecycle.conftest import Start
from tests.lifecycle.supervised import wait_until

MANY = """
import holdfast
for number in range(300):
    (holdfast.checkpoint_dir() / f"part-{number}").write_bytes(bytes([number % 256]) * 50_000)
"""


def test_sigterm_during_a_restore_starts_no_script_and_leaves_the_directory_unchanged(start: Start) -> None:
    with serve_objects() as server:
        environ = {**server.environment, "CHECKPOINT_S3_URI": f"s3://{server.bucket}/x"}
        assert start(sys.executable, "-c", MANY, environ=environ).exit_code() == 0
        second = start("echo", "started", environ=environ, machine="two")
        staging = second.checkpoints / ".holdfast/staging"
        wait_until(lambda: staging.is_dir() and len(list(staging.iterdir())) > 20, "the restore is under way")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)  # the restore hangs
        try:
            second.signal()
            assert second.exit_code() == 143, second.log
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert second.stdout == b""
        assert [path.name for path in second.checkpoints.iterdir()] == [".holdfast"]
        third = start("echo", "started", environ=environ, machine="two")
        assert third.exit_code() == 0, third.log
        assert third.report["files_restored"] == 300
        assert third.report["bytes_restored"] < 300 * 50_000  # it continued the second restore


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "small"
    directory.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory], capture_output=True)
    if made.returncode != 0:
        pytest.skip("this user cannot mount a file system (mount needs root)")
    yield directory
    subprocess.run(["umount", "--lazy", directory], check=True)


def test_a_disk_that_cannot_hold_the_snapshot_is_refused_before_anything_is_written(
    start: Start, small_disk: Path
) -> None:
    code = "import holdfast; (holdfast.checkpoint_dir() / 'big.pt').write_bytes(bytes(3_000_000))"
    assert start(sys.executable, "-c", code).exit_code() == 0
    run = start("echo", "started", environ={"CHECKPOINT_LOCAL_PATH": str(small_disk)}, machine="two")
    assert run.exit_code() == 64
    assert "give it a larger volume" in run.log
    assert run.stdout == b""
    assert list(small_disk.iterdir()) == []


def test_a_job_that_sagemaker_manages_is_supervised_and_nothing_else(start: Start, tmp_path: Path) -> None:
    config = tmp_path / "one/ml/input/config"
    config.mkdir(parents=True)
    state = tmp_path / "state"
    state.mkdir()
    (state / "epoch-3.pt").write_bytes(b"restored by SageMaker")
    (state / "epoch-4.pt.sagemaker-uploading").touch()
    (config / "checkpointconfig.json").write_text(json.dumps({"LocalPath": str(state)}))
    (config / "init-config.json").write_text(json.dumps({"jobRunInfo": {"jobRunNumber": 2}}))
    code = """
import os, signal, sys, time
def handle(*_):
    print("handled", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, handle)
print(*(os.environ[name] for name in ("SM_CHECKPOINT_DIR", "HOLDFAST_RESUME", "HOLDFAST_ATTEMPT")), flush=True)
time.sleep(1000)
"""
    run = start(
        sys.executable, "-c", code, environ={"TRAINING_JOB_ARN": "arn:aws:sagemaker:eu-west-1:1:training-job/x"}
    )
    run.wait_for_output("epoch-3.pt")
    run.signal()
    assert run.exit_code() == 143
    assert run.stdout.decode() == f"{state} {state}/epoch-3.pt 2\nhandled\n"
    assert list(run.store.iterdir()) == []  # CHECKPOINT_S3_URI is set, and only SageMaker writes there
