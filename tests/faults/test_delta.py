"""Part copies that a server refuses, sources that go while they are copied, uploads that lives leave to the next."""

from __future__ import annotations

import random
import signal
import sys
from pathlib import Path

import pytest
from tests.faults.conftest import Job
from tests.faults.proxy import Fault
from tests.lifecycle.conftest import Start
from tests.lifecycle.supervised import wait_until
from tests.logs import Logged
from tests.servers import Answer, Seen, error

from holdfast.checksum import crc64nvme
from holdfast.snapshot.record import Snapshot
from holdfast.store import Part
from holdfast.transfer import parts, upload

PART = parts.PART_SIZE
SIZE = upload.SINGLE_PUT + PART + 12345
CONTENT = random.Random(3).randbytes(SIZE)
CHANGED = b"x" + CONTENT[1:]
SENT = "PUT .*partNumber="


def is_copy(seen: Seen) -> bool:
    return "x-amz-copy-source" in seen.headers


def stored(job: Job, snapshot: Snapshot | None) -> bytes:
    assert snapshot is not None
    entry = snapshot.files["model.bin"]
    found: list[bytes] = []
    job.past_the_proxy().read(entry.key, etag=entry.etag, sink=lambda piece: found.append(bytes(piece)))
    return b"".join(found)


@pytest.mark.parametrize(
    "refusal",
    [
        error(501, "NotImplemented", "A header you provided implies functionality that is not implemented."),
        error(400, "InvalidArgument"),
        error(411, "MissingContentLength"),
        error(403, "AccessDenied"),
        Answer(headers={"ETag": '"d41d8cd98f00b204e9800998ecf8427e"'}),
        Answer(body=b"<PutPartResult/>", headers={"ETag": '"d41d8cd98f00b204e9800998ecf8427e"'}),
    ],
    ids=["not implemented", "invalid", "no length", "denied", "an empty part", "another result"],
)
def test_a_server_that_copies_no_parts_gets_the_whole_file(refusal: Answer, job: Job, logged: Logged) -> None:
    syncer = job.syncer()
    job.write("model.bin", CONTENT)
    job.sync(syncer)
    refused = job.proxy.always(SENT, Fault(instead=lambda seen: refusal if is_copy(seen) else None))
    job.write("model.bin", CHANGED)
    done = job.sync(syncer)
    assert done.unfinished == {}
    assert stored(job, done.snapshot) == CHANGED
    assert job.unfinished_uploads() == 0
    assert "this store copies no parts" in logged()[-1]
    job.proxy.mend()
    before = refused.fired
    job.write("model.bin", CONTENT[:-1] + b"x")
    assert job.sync(syncer).bytes_uploaded == SIZE
    assert refused.fired == before


def test_a_source_that_somebody_replaces_while_parts_of_it_are_copied_is_found_out(job: Job) -> None:
    """moto copies whatever lies there: the look behind each copy finds it, and what it had travels."""
    syncer = job.syncer()
    job.write("model.bin", CONTENT)
    job.sync(syncer)

    def replace() -> None:
        job.past_the_proxy().put("model.bin", Part(bytes(SIZE), 0, SIZE, crc64nvme(bytes(SIZE))))

    job.proxy.on(f"{SENT}3&", Fault(first=replace))
    job.write("model.bin", CHANGED)
    done = job.sync(syncer)
    assert stored(job, done.snapshot) == CHANGED
    assert done.bytes_uploaded > PART
    assert job.unfinished_uploads() == 0


WRITES = f"""
import random, sys, time
import holdfast
path = holdfast.checkpoint_dir() / "model.bin"
if not path.exists():
    with holdfast.save(path) as temporary:
        temporary.write_bytes(random.Random(3).randbytes({SIZE}))
print("written", flush=True)
while "stay" in sys.argv and not holdfast.interrupted():
    time.sleep(0.02)
"""


def notes(checkpoints: Path) -> list[str]:
    """Return the lines of all notes: one for an upload, and one more for each part."""
    return [line for file in (checkpoints / ".holdfast").glob("upload-*") for line in file.read_text().splitlines()]


def test_a_container_that_is_killed_between_parts_leaves_them_to_the_next_one_on_its_volume(
    start: Start, job: Job
) -> None:
    job.proxy.always(f"{SENT}[456]&", Fault(stalls_after=-1))
    first = start(sys.executable, "-c", WRITES, "stay", environ=job.environ())
    wait_until(lambda: len(notes(first.checkpoints)) == 1 + 3, "three parts are noted")
    first.vanish()
    job.proxy.mend()
    job.proxy.seen.clear()
    second = start(sys.executable, "-c", WRITES, environ=job.environ())
    assert second.exit_code() == 0, second.log
    assert job.proxy.asked(f"{SENT}[123]&") == 0
    assert job.proxy.asked(f"{SENT}[456]&") == 3
    assert job.proxy.asked("POST .*uploads=") == 0
    assert second.report["bytes_uploaded"] == SIZE - 3 * PART
    assert job.restored() == {"model.bin": CONTENT}
    assert job.unfinished_uploads() == 0
    assert notes(second.checkpoints) == []


def test_a_flush_that_runs_out_of_time_leaves_its_parts_to_the_next_container_on_its_volume(
    start: Start, job: Job
) -> None:
    throttled = job.proxy.always(f"{SENT}[3456]&", Fault(instead=error(503, "SlowDown")))
    first = start(sys.executable, "-c", WRITES, "stay", environ=job.environ(HOLDFAST_GRACE_SECONDS="4"))
    wait_until(lambda: len(notes(first.checkpoints)) == 1 + 2, "two parts are noted")
    first.signal(signal.SIGTERM)
    assert first.exit_code() == 75, first.log
    assert throttled.fired > 0
    assert len(notes(first.checkpoints)) == 1 + 2
    job.proxy.mend()
    second = start(sys.executable, "-c", WRITES, environ=job.environ())
    assert second.exit_code() == 0, second.log
    assert second.report["bytes_uploaded"] == SIZE - 2 * PART
    assert job.restored() == {"model.bin": CONTENT}
    assert job.unfinished_uploads() == 0
