"""One attempt in a container: PID 1, signals, checkpoints, and users that are not root."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from examples.demo.object_server import ObjectServer
from tests.images.containers import Containers, ended, read_json, wait_for_line

pytestmark = pytest.mark.docker

TRAIN = """
import pathlib, signal, sys, time
import holdfast

newest = holdfast.latest("step-*")
step = int(newest.read_text()) if newest else 0
print(f"begins at {step}")

def on_sigterm(number, frame):
    with holdfast.save(holdfast.checkpoint_dir() / f"step-{step + 1}") as temporary:
        temporary.write_text(str(step + 1))
    print("handler ran")
    sys.exit(0)

signal.signal(signal.SIGTERM, on_sigterm)
print("ready")
while True:
    time.sleep(0.05)
"""


def keeping(s3_server: ObjectServer) -> dict[str, str]:
    """Return the environment of a container with a new prefix for its checkpoints."""
    place = {"CHECKPOINT_S3_URI": f"s3://{s3_server.bucket}/{uuid.uuid4().hex}", "AWS_EC2_METADATA_DISABLED": "true"}
    return {**s3_server.environment, **place}


def test_a_stopped_container_flushes_and_the_next_one_resumes(containers: Containers, s3_server: ObjectServer) -> None:
    environment = keeping(s3_server) | {
        "SAGEMAKER_PROGRAM": "train.py",
        "HOLDFAST_REPORT_FILE": "/tmp/report.json",
    }
    for attempt in (1, 2, 3):
        container = containers.start(files={"train.py": TRAIN}, environment=environment, network_mode="host")
        wait_for_line(container, "ready")
        container.stop(timeout=60)
        end = ended(container)
        assert end.out.splitlines() == [f"begins at {attempt - 1}", "ready", "handler ran"]
        assert end.code == 143
        report = read_json(container, "/tmp/report.json")
        assert (report["attempt"], report["notice"], report["exit_code"]) == (attempt, "signal", 143)
        assert report["resumed_from"] == (f"step-{attempt - 1}" if attempt > 1 else None)


def test_a_mounted_directory_is_a_store_too(containers: Containers, tmp_path: Path) -> None:
    end = containers.run(
        "python",
        "-c",
        "import holdfast; (holdfast.checkpoint_dir() / 'one.bin').write_bytes(b'1')",
        environment={"CHECKPOINT_S3_URI": "file:///store", "AWS_EC2_METADATA_DISABLED": "true"},
        volumes={str(tmp_path): {"bind": "/store", "mode": "rw"}},
    )
    assert end.code == 0, end.err
    assert (tmp_path / "one.bin").read_bytes() == b"1"


def test_orphans_are_reaped(containers: Containers) -> None:
    program = """
import os, pathlib, time
for _ in range(20):
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.1)   # by now an orphan: PID 1 is its parent
        os._exit(0)
    os.wait()
def zombies():
    states = [path.read_text().rpartition(")")[2].split()[0] for path in pathlib.Path("/proc").glob("[0-9]*/stat")]
    return states.count("Z")
give_up = time.monotonic() + 30
time.sleep(0.2)
while zombies() and time.monotonic() < give_up:
    time.sleep(0.05)
print(zombies(), os.getppid())
"""
    assert containers.run("python", "-c", program).out == "0 1\n"


MARKER = "import os; open(f'/tmp/imported-by-{os.getpid()}', 'w').close()"
FIND = ["run", "--", "find", "/tmp", "-name", "imported-by-*"]


@pytest.mark.parametrize("name", ["queue", "logging", "boto3", "holdfast", "holdfast_entrypoint", "sitecustomize"])
def test_pid_1_imports_nothing_of_the_users(containers: Containers, s3_server: ObjectServer, name: str) -> None:
    environment = keeping(s3_server) | {"PYTHONPATH": "/opt/ml/code"}
    end = containers.run(*FIND, files={f"{name}.py": MARKER}, environment=environment, network_mode="host")
    assert (end.code, end.out) == (0, ""), end.err


def test_pid_1_would_import_the_users_files_were_it_not_isolated(containers: Containers) -> None:
    """The test above looks in the right place."""
    end = containers.run(
        *FIND, files={"queue.py": MARKER}, entrypoint=["/opt/holdfast/bin/python", "-u", "-m", "holdfast_entrypoint"]
    )
    assert end.code == 70
    assert "module 'queue' has no attribute" in end.err


def test_any_user_can_run_it_read_only_and_without_a_network(containers: Containers) -> None:
    end = containers.run(
        "run",
        "--",
        "python",
        "-c",
        "import os; print(os.getuid())",
        user="1234:1234",
        read_only=True,
        tmpfs={"/tmp": ""},
        network_mode="none",
    )
    assert (end.code, end.out) == (0, "1234\n"), end.err


def test_any_user_can_keep_checkpoints(containers: Containers, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    end = containers.run(
        "python",
        "-c",
        "import holdfast; (holdfast.checkpoint_dir() / 'one.bin').write_bytes(b'1')",
        user="1234:1234",
        environment={"CHECKPOINT_S3_URI": "file:///store", "AWS_EC2_METADATA_DISABLED": "true"},
        volumes={str(tmp_path): {"bind": "/store", "mode": "rw"}},
    )
    assert end.code == 0, end.err
    assert (tmp_path / "one.bin").stat().st_uid == 1234


@pytest.mark.parametrize("threads", [1, 12])
def test_a_container_of_few_threads_stores_everything_or_names_the_limit(
    containers: Containers, tmp_path: Path, threads: int
) -> None:
    end = containers.run(
        "python",
        "-c",
        "import holdfast\nfor n in range(500): (holdfast.checkpoint_dir() / f'{n}.bin').write_bytes(b'%d' % n)",
        environment={"CHECKPOINT_S3_URI": "file:///store", "AWS_EC2_METADATA_DISABLED": "true"},
        volumes={str(tmp_path): {"bind": "/store", "mode": "rw"}},
        pids_limit=threads,
    )
    if threads == 12:
        assert end.code == 0, end.err
        assert sorted(path.name for path in tmp_path.glob("*.bin")) == sorted(f"{n}.bin" for n in range(500))
    else:
        assert end.code == 64
        assert "raise --pids-limit" in end.err
        assert "bug" not in end.err
