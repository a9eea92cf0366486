"""Multipart uploads, ranged downloads and server-side copies whose requests break in the middle."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from tests.faults.conftest import Job
from tests.faults.proxy import Fault
from tests.faults.test_requests import BREAKS, HTML, PAGE, damaged, first_half, flipped
from tests.logs import Logged
from tests.servers import Answer, error

from holdfast.errors import DamagedError, NotFoundError, StoreError, TransientStoreError
from holdfast.store import Absent, Content, Store
from holdfast.store.backoff import RetryPolicy
from holdfast.transfer.download import Source, download_file
from holdfast.transfer.parallel import Transfer
from holdfast.transfer.parts import checksum_file
from holdfast.transfer.server_copy import copy_object
from holdfast.transfer.upload import upload_file

SIZE = 70 << 20
SHORT = {"HOLDFAST_S3_TIMEOUT_SECONDS": "1"}
ERROR_IN_SUCCESS = {
    "an error": error(200, "InternalError", "We encountered an internal error. Please try again."),
    "throttling": error(200, "SlowDown"),
    "a page": Answer(200, HTML, PAGE),
    "nothing": Answer(200),
}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "model.pt"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    return path


def send(store: Store, path: Path, key: str = "model.pt") -> str:
    return upload_file(Transfer(store), key, path, size=SIZE, condition=Absent())


def fetch(store: Store, etag: str, into: Path, path: Path, key: str = "model.pt") -> bytes:
    source = Source(key=key, size=SIZE, etag=etag, crc64nvme=checksum_file(path).whole)
    download_file(Transfer(store), source, into)
    return into.read_bytes()


def test_a_large_file_travels_whole_both_ways_whatever_befalls_one_of_its_parts(
    large: Path, job: Job, tmp_path: Path
) -> None:
    up = [
        job.proxy.on("POST .*uploads=", Fault(loses_answer=True)),
        job.proxy.on("PUT .*partNumber=1&", Fault(reset_up_after=5 << 20), times=2),
        job.proxy.on("PUT .*partNumber=2&", Fault(up=flipped), times=2),
        job.proxy.on("PUT .*partNumber=3&", Fault(loses_answer=True)),
        job.proxy.on("PUT .*partNumber=4&", BREAKS["page of a load balancer, 200"]),
        job.proxy.on("PUT .*partNumber=5&", Fault(stalls_after=-1)),
    ]
    store = job.store(SHORT)
    etag = send(store, large)
    assert all(rule.fired for rule in up)
    # The upload whose beginning was answered into the void holds no parts, and is there for a lifecycle rule to end.
    assert job.unfinished_uploads() == 1
    ranges = f"GET .*/{job.prefix}/model.pt"
    for number, fault in enumerate(
        [
            Fault(cut_down_after=3 << 20),
            Fault(down=first_half),
            Fault(stalls_after=1 << 20),
            Fault(reset_down_after=1 << 20),
            BREAKS["page of a load balancer, 200"],
            Fault(down=damaged),
        ]
    ):
        job.proxy.on(ranges, fault, skip=number // 2)
    assert fetch(store, etag, tmp_path / "back", large) == large.read_bytes()


@pytest.mark.parametrize("said", ["an error", "a page"])
def test_a_completion_that_fails_with_status_200_is_repeated(said: str, large: Path, job: Job, tmp_path: Path) -> None:
    job.proxy.on("POST .*uploadId=", Fault(instead=ERROR_IN_SUCCESS[said]), times=2)
    etag = send(job.store(), large)
    assert fetch(job.past_the_proxy(), etag, tmp_path / "back", large) == large.read_bytes()


@pytest.mark.parametrize(
    "fault",
    [Fault(loses_answer=True), Fault(down=lambda answer: ERROR_IN_SUCCESS["an error"])],
    ids=["lost", "an error"],
)
def test_a_completion_that_happened_although_its_answer_says_otherwise_is_found(
    fault: Fault, large: Path, job: Job, tmp_path: Path
) -> None:
    job.proxy.on("POST .*uploadId=", fault)
    etag = send(job.store(), large)
    assert etag == job.past_the_proxy().head("model.pt").etag
    assert fetch(job.past_the_proxy(), etag, tmp_path / "back", large) == large.read_bytes()
    assert job.unfinished_uploads() == 0


def test_a_large_file_that_cannot_be_sent_leaves_nothing_behind(large: Path, job: Job) -> None:
    job.proxy.always("PUT .*partNumber=3&", BREAKS["throttled"])
    with pytest.raises(TransientStoreError, match=r"storing part 3 of 'model.pt' failed: HTTP 503 \(SlowDown"):
        send(job.store(policy=RetryPolicy(attempts=3, first_pause=0.01)), large)
    assert job.unfinished_uploads() == 0
    assert job.keys() == []


def test_parts_that_cannot_be_dropped_either_are_named_beside_the_first_reason(large: Path, job: Job) -> None:
    job.proxy.always("PUT .*partNumber=1&", Fault(instead=error(403, "AccessDenied")))
    job.proxy.always("DELETE", Fault(instead=error(403, "AccessDenied")))
    with pytest.raises(StoreError, match="storing part 1") as caught:
        send(job.store(), large)
    assert "s3:AbortMultipartUpload" in caught.value.__notes__[0]


def test_a_server_that_does_not_check_what_it_gets_is_found_out_by_the_restore(job: Job, logged: Logged) -> None:
    """The damage is done and committed; the restore sees it, says so, and takes the snapshot before."""
    job.write("model.pt", b"first" * 1000)
    syncer = job.syncer()
    job.sync(syncer)
    job.proxy.checks = False
    job.proxy.on("PUT .*/model.pt$", Fault(up=flipped))
    job.write("model.pt", b"other" * 1000)
    job.sync(syncer)
    assert job.restored() == {"model.pt": b"first" * 1000}
    assert "passed over, the one before it is tried: object" in logged()[-1]
    assert "has CRC64NVME" in logged()[-1]


def test_a_download_that_is_damaged_time_and_again_leaves_no_file(large: Path, job: Job, tmp_path: Path) -> None:
    etag = send(job.store(), large)
    job.proxy.always("GET .*/model.pt", Fault(down=damaged))
    with pytest.raises(DamagedError, match="has CRC64NVME"):
        fetch(job.store(), etag, tmp_path / "back", large)
    assert not (tmp_path / "back").exists()


# Copies inside the store


@pytest.mark.parametrize("said", [*ERROR_IN_SUCCESS, "throttled", "garbage instead of HTTP", "reset at once"])
def test_a_copy_that_fails_is_repeated(said: str, job: Job) -> None:
    fault = Fault(instead=ERROR_IN_SUCCESS[said]) if said in ERROR_IN_SUCCESS else BREAKS[said]
    job.write("model.pt", b"content")
    snapshot = job.sync(job.syncer()).snapshot
    assert snapshot is not None
    entry, store = snapshot.files["model.pt"], job.store()
    job.proxy.on("PUT .*/copy.pt$", fault, times=2)
    etag = copy_object(Transfer(store), entry.content, "copy.pt")
    assert job.past_the_proxy().head("copy.pt").etag == etag


def test_a_copy_of_a_large_object_whose_parts_fail_with_status_200_is_whole(
    large: Path, job: Job, tmp_path: Path
) -> None:
    store = job.store()
    etag = send(store, large)
    job.proxy.on("PUT .*/copy.pt.*partNumber=2&", Fault(instead=ERROR_IN_SUCCESS["an error"]), times=2)
    job.proxy.on("PUT .*/copy.pt.*partNumber=4&", Fault(instead=ERROR_IN_SUCCESS["a page"]))
    job.proxy.on("PUT .*/copy.pt.*partNumber=3&", Fault(loses_answer=True))
    copied = copy_object(Transfer(store), Content("model.pt", etag, SIZE, checksum_file(large).whole), "copy.pt")
    assert fetch(job.past_the_proxy(), copied, tmp_path / "back", large, "copy.pt") == large.read_bytes()


def test_a_large_copy_that_cannot_be_made_leaves_nothing_behind(large: Path, job: Job) -> None:
    store = job.store(policy=RetryPolicy(attempts=2, first_pause=0.01))
    etag = send(store, large)
    job.proxy.always("PUT .*/copy.pt.*partNumber=2&", replace(BREAKS["internal error"]))
    with pytest.raises(TransientStoreError, match="to part 2 of"):
        copy_object(Transfer(store), Content("model.pt", etag, SIZE, checksum_file(large).whole), "copy.pt")
    assert job.unfinished_uploads() == 0
    with pytest.raises(NotFoundError):
        job.past_the_proxy().head("copy.pt")
