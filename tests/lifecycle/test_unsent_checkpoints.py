"""Two attempts on one volume: the second resumes from checkpoints that the first finished and could not send."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.demo.object_server import ObjectServer
from tests.faults.proxy import Fault, FaultyProxy
from tests.lifecycle.conftest import Start
from tests.lifecycle.supervised import Supervised, wait_until

LIVES = """
import hashlib, os, pathlib, signal, sys, time
import holdfast
signal.signal(signal.SIGTERM, lambda *_: None)
directory = holdfast.checkpoint_dir()
resume = os.environ.get("HOLDFAST_RESUME")
if resume:
    digest = hashlib.sha256((pathlib.Path(resume) / "weights").read_bytes()).hexdigest()
    print("resumed from", os.path.basename(resume), digest, flush=True)
else:
    (directory / "first").mkdir()
    (directory / "first/weights").write_bytes(os.urandom(100_000))
print("ready", flush=True)
while not holdfast.interrupted():
    time.sleep(0.02)
if not resume:
    with holdfast.save(directory / "second") as temporary:
        temporary.mkdir()
        (temporary / "weights").write_bytes(os.urandom(int(sys.argv[1])))
        (temporary / "config.json").write_text("{}")
"""
LARGE = 84 << 20  # six parts, the last of 4 MiB
PARTS = "PUT .*partNumber="


@pytest.fixture
def proxy(s3_server: ObjectServer) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3_server.endpoint) as made:
        yield made


@pytest.fixture
def environ(s3_server: ObjectServer, proxy: FaultyProxy, request: pytest.FixtureRequest) -> dict[str, str]:
    return {
        **s3_server.environment,
        "AWS_ENDPOINT_URL_S3": proxy.endpoint,
        "CHECKPOINT_S3_URI": f"s3://{s3_server.bucket}/left/{request.node.name}/{os.getpid()}",
        "HOLDFAST_GRACE_SECONDS": "8",
    }


def begin_first(start: Start, proxy: FaultyProxy, environ: dict[str, str]) -> Supervised:
    """Start and stop an attempt whose connection lets only two parts of a large file through."""
    first = start(sys.executable, "-c", LIVES, f"{LARGE}", machine="one", environ=environ)
    first.wait_for_log("snapshot 000001-000001")
    proxy.on(PARTS, Fault(bytes_per_second=100_000), skip=2, times=math.inf)
    first.signal()
    return first


def confirmed(run: Supervised) -> set[int]:
    """Return the numbers of the parts that are noted to be in the store."""
    notes = [note.read_text().splitlines(keepends=True) for note in (run.checkpoints / ".holdfast").glob("upload-*")]
    return {json.loads(line)[0] for lines in notes for line in lines[1:] if line.endswith("\n")}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_second(start: Start, proxy: FaultyProxy, environ: dict[str, str], first: Supervised) -> None:
    """Check that a second attempt resumes from it and sends the missing parts; a third machine gets it whole."""
    stored, content = confirmed(first), digest(first.checkpoints / "second/weights")
    assert stored
    proxy.mend()
    before = len(proxy.seen)
    second = start(sys.executable, "-c", LIVES, "0", machine="one", environ=environ)
    second.wait_for_log("snapshot 000002-000001")
    second.signal()
    assert second.exit_code() == 143, second.log
    assert f"resumed from second {content}" in second.stdout.decode()
    assert "attempt 1 had finished but not stored 'second': kept in the directory, uploaded now" in second.log
    seen = proxy.seen[before:]
    sent = [request.target for request in seen if request.method == "PUT" and "partNumber=" in request.target]
    numbers = sorted(int(target.split("partNumber=")[1].partition("&")[0]) for target in sent)
    assert numbers == sorted({1, 2, 3, 4, 5, 6} - stored)
    assert not (second.checkpoints / ".holdfast").exists()
    third = start(sys.executable, "-c", LIVES, "0", machine="two", environ=environ)
    third.wait_for_output(f"resumed from second {content}")
    third.vanish()


def test_a_checkpoint_that_missed_the_deadline_is_resumed_from_and_only_its_missing_parts_are_sent(
    start: Start, proxy: FaultyProxy, environ: dict[str, str]
) -> None:
    first = begin_first(start, proxy, environ)
    assert first.exit_code() == 75, first.log
    assert "finished but not stored: 'second'; the next attempt on this directory resumes from it" in first.log
    check_second(start, proxy, environ, first)


def test_a_flush_that_is_killed_is_continued_as_well(start: Start, proxy: FaultyProxy, environ: dict[str, str]) -> None:
    first = begin_first(start, proxy, environ)
    wait_until(lambda: len(confirmed(first)) >= 2, "two parts are in the store")
    os.kill(first.pid, signal.SIGKILL)
    assert first.exit_code() == -signal.SIGKILL
    check_second(start, proxy, environ, first)


def test_a_checkpoint_that_changed_between_two_attempts_is_moved_aside_and_the_snapshot_restored(
    start: Start, proxy: FaultyProxy, environ: dict[str, str]
) -> None:
    first = begin_first(start, proxy, environ)
    assert first.exit_code() == 75, first.log
    proxy.mend()
    (first.checkpoints / "second/config.json").write_text("{ }")
    second = start(sys.executable, "-c", LIVES, "0", machine="one", environ=environ)
    second.wait_for_output("resumed from first")
    second.vanish()
    assert len([*(second.checkpoints / ".holdfast/displaced").rglob("weights")]) == 1
