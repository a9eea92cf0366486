"""Uploads have low priority while the script runs, and normal priority from a notice on."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from examples.demo.object_server import ObjectServer
from tests.lifecycle.conftest import Start
from tests.lifecycle.supervised import Supervised, wait_until

SIZE = 12_000_000
ONE_LARGE_FILE = f"""
import time
import holdfast
with holdfast.save(holdfast.checkpoint_dir() / "large.pt") as temporary:
    temporary.write_bytes(bytes({SIZE}))
print("written", flush=True)
while not holdfast.interrupted():
    time.sleep(0.02)
"""


def priorities(pid: int) -> list[int]:
    """Return the nice value of each thread of a process, as the kernel has it."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return [int(stat.rpartition(")")[2].split()[16]) for stat in stats]


def uses_low_priority(run: Supervised) -> bool:
    usual = os.getpriority(os.PRIO_PROCESS, run.pid)
    return min(19, usual + 10) in priorities(run.pid) and usual < 19


def test_what_is_stored_while_the_script_runs_is_stored_at_low_priority_and_the_script_has_its_own(
    start: Start,
) -> None:
    run = start(sys.executable, "-c", ONE_LARGE_FILE)
    run.wait_for_log("snapshot 000001-000001")
    assert uses_low_priority(run)
    (script,) = (int(child) for child in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split())
    assert set(priorities(script)) == {os.getpriority(os.PRIO_PROCESS, run.pid)}
    run.signal()
    assert run.exit_code() == 143, run.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_notice_lifts_the_upload_limit_of_a_transfer_in_flight(
    start: Start, s3_server: ObjectServer, request: pytest.FixtureRequest, number: signal.Signals
) -> None:
    uri = f"s3://{s3_server.bucket}/{request.node.name}"
    limit = {"HOLDFAST_UPLOAD_LIMIT": "64kB/s"}  # three minutes for the file; 20 seconds are given
    run = start(
        sys.executable, "-c", ONE_LARGE_FILE, environ={**s3_server.environment, "CHECKPOINT_S3_URI": uri, **limit}
    )
    run.wait_for_output("written")
    wait_until(lambda: uses_low_priority(run), "the upload has begun")
    run.signal(number)
    assert run.exit_code() == 143, run.log
    assert f"{SIZE:,} sent" in run.log
