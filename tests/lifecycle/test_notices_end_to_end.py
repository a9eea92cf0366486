"""A notice from the machine, up to the script and the store."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from examples.demo.imds import MetadataServer
from tests.lifecycle.conftest import Start

LISTENS = """
import os, pathlib, sys, time
import holdfast
directory = holdfast.checkpoint_dir()
notice = pathlib.Path(os.environ["HOLDFAST_NOTICE_FILE"])
(directory / "early.pt").write_bytes(b"early")
print("ready", flush=True)
while not holdfast.interrupted():
    if notice.exists():
        print("noticed:", notice.read_text(), flush=True)
        time.sleep(0.5)
    time.sleep(0.02)
print(f"interrupted with {holdfast.remaining():.0f} s left", flush=True)
(directory / "late.pt").write_bytes(b"late")
"""


@pytest.fixture
def metadata() -> Iterator[MetadataServer]:
    with MetadataServer() as server:
        yield server


def asking(metadata: MetadataServer) -> dict[str, str | None]:
    return {
        "AWS_EC2_METADATA_DISABLED": None,
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.endpoint,
        "HOLDFAST_STOP_SIGNAL": "WINCH",  # ignored by default: the script has only the notice file
    }


def test_a_spot_notice_stops_the_script_within_its_two_minutes(start: Start, metadata: MetadataServer) -> None:
    run = start(sys.executable, "-c", LISTENS, environ=asking(metadata))
    run.wait_for_output("ready")
    metadata.announce_spot(120)
    assert run.exit_code() == 143, run.log
    assert b"interrupted with" in run.stdout
    assert run.stored() == {"early.pt": b"early", "late.pt": b"late"}
    assert run.report["notice"] == "spot"


def test_a_notice_whose_time_has_passed_stops_at_once(start: Start, metadata: MetadataServer) -> None:
    run = start(sys.executable, "-c", LISTENS, environ=asking(metadata))
    run.wait_for_output("ready")
    metadata.announce_spot(-3600)
    assert run.exit_code() == 143, run.log
    assert run.stored()["late.pt"] == b"late"


def test_a_rebalance_recommendation_flushes_and_training_goes_on(start: Start, metadata: MetadataServer) -> None:
    run = start(sys.executable, "-c", LISTENS, environ=asking(metadata))
    run.wait_for_output("ready")
    metadata.announce_rebalance()
    run.wait_for_output("noticed:")
    assert b'"kind": "rebalance"' in run.stdout
    run.wait_for_log("snapshot 000001-000001")
    assert run.process.poll() is None
    metadata.announce_spot(120)
    assert run.exit_code() == 143
    assert run.stored()["late.pt"] == b"late"


def test_a_host_notice_file_stops_the_script(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "host" / "notice"
    path.parent.mkdir()
    run = start(
        sys.executable, "-c", LISTENS, environ={"HOLDFAST_HOST_NOTICE_FILE": str(path), "HOLDFAST_STOP_SIGNAL": "WINCH"}
    )
    run.wait_for_output("ready")
    when = (datetime.now(UTC) + timedelta(seconds=90)).strftime("%Y-%m-%dT%H:%M:%SZ")
    path.write_text(json.dumps({"action": "terminate", "time": when}))
    assert run.exit_code() == 143
    assert run.report["notice"] == "host"
    assert run.stored()["late.pt"] == b"late"


def test_metadata_that_hangs_or_refuses_does_not_delay_the_script(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hangs = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for number, endpoint in enumerate([hangs, "http://127.0.0.1:1"]):
            environ = {"AWS_EC2_METADATA_DISABLED": None, "AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint}
            run = start("true", environ=environ, machine=str(number))
            assert run.exit_code() == 0


def test_metadata_is_never_asked_through_a_proxy(start: Start, metadata: MetadataServer) -> None:
    environ = asking(metadata) | {"HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1"}
    run = start(sys.executable, "-c", LISTENS, environ=environ)
    run.wait_for_output("ready")
    metadata.announce_spot(120)
    assert run.exit_code() == 143


def test_the_notice_directory_is_gone_afterwards(start: Start) -> None:
    run = start(sys.executable, "-c", "import os; print(os.environ['HOLDFAST_NOTICE_FILE'])")
    assert run.exit_code() == 0
    assert not Path(os.fsdecode(run.stdout.strip())).parent.exists()
