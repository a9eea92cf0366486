"""Every kind of request, broken once in every way: it is repeated, and the outcome is that of an unbroken one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.faults.conftest import Job
from tests.faults.proxy import Fault
from tests.logs import Logged
from tests.servers import Answer, Seen, error

PAGE = b"<html><head><title>Sorry</title></head><body>The service is being maintained</body></html>"
HTML = {"Content-Type": "text/html"}


def elsewhere(seen: Seen) -> Answer | None:
    """Send on what was signed for another region than the bucket's."""
    if "/eu-west-1/s3/" in seen.headers["authorization"]:
        return None
    return error(301, "PermanentRedirect", x_amz_bucket_region="eu-west-1")


def first_half(answer: Answer) -> Answer:
    return replace(answer, body=answer.body[: len(answer.body) // 2])


def flipped(body: bytes) -> bytes:
    at = len(body) // 2
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


def damaged(answer: Answer) -> Answer:
    return replace(answer, body=flipped(answer.body)) if answer.body else answer


BREAKS = {
    "throttled": Fault(instead=error(503, "SlowDown", "Please reduce your request rate.")),
    "internal error": Fault(instead=error(500, "InternalError")),
    "reset before the answer": Fault(reset_up_after=1 << 30),
    "reset at once": Fault(reset_up_after=0),
    "answer lost after the work": Fault(loses_answer=True),
    "garbage instead of HTTP": Fault(raw=b"\x15\x03\x01\x00\x02\x02\x16 what is this\r\n\r\n"),
    "half a status line": Fault(raw=b"HTTP/1.1 2"),
    "nothing at all": Fault(raw=b""),
    "page of a load balancer, 503": Fault(instead=Answer(503, HTML, PAGE)),
    "page of a load balancer, 200": Fault(instead=Answer(200, HTML, PAGE)),
    "page of a load balancer, 404": Fault(instead=Answer(404, HTML, PAGE)),
    "redirect to the region": Fault(instead=elsewhere),
    "redirect for a while": Fault(instead=error(307, "TemporaryRedirect", x_amz_bucket_region="eu-west-1")),
    "silence": Fault(stalls_after=-1),
}
DAMAGES = {
    "shorter than announced": Fault(cut_down_after=100),
    "reset in the middle": Fault(reset_down_after=100),
    "silence in the middle": Fault(stalls_after=100),
    "half of it, announced as all": Fault(down=first_half),
    "a flipped bit": Fault(down=damaged),  # but not in a listing, which carries no checksum
}
REQUESTS = {
    "check": r"GET .*max-keys=1&",
    "listing": r"GET .*max-keys=1000&",
    "claim": r"PUT .*/attempts/",
    "file": r"PUT .*/model.pt$",
    "record": r"PUT .*/commits/",
    "read of a record": r"GET .*/commits/",
    "look at a record": r"HEAD .*/commits/",
    "read of a file": r"GET .*/model.pt$",
}


# An answer to HEAD has no body that would tell a page with 404 from S3's own answer.
@pytest.mark.parametrize(
    ("request_", "break_"),
    [
        (request, break_)
        for request in REQUESTS
        for break_ in BREAKS
        if (request, break_) != ("look at a record", "page of a load balancer, 404")
    ],
)
def test_a_request_that_breaks_once_is_repeated(break_: str, request_: str, job: Job, logged: Logged) -> None:
    job.proxy.on(REQUESTS[request_], BREAKS[break_])
    content = bytes(range(256)) * 1000
    job.write("model.pt", content)
    store = job.store({"HOLDFAST_S3_TIMEOUT_SECONDS": "0.3"})
    store.check()
    syncer = job.syncer(store)
    assert job.sync(syncer).unfinished == {}
    syncer.commits.refuse_if_superseded()
    job.restore("two", store)
    assert job.files("two") == {"model.pt": content}
    assert logged() == []
    # Nothing was written twice: the answer of the first write may have been lost, and the second found its own.
    assert sorted(job.keys()) == [
        ".holdfast/attempts/000001.json",
        ".holdfast/commits/000001-000001.json",
        "model.pt",
    ]


@pytest.mark.parametrize(
    ("request_", "damage"),
    [(request, damage) for request in ("read of a record", "read of a file", "listing") for damage in DAMAGES][:-1],
)
def test_an_answer_that_is_cut_or_damaged_on_the_way_is_asked_for_again(
    request_: str, damage: str, job: Job, logged: Logged
) -> None:
    content = bytes(range(256)) * 1000
    job.write("model.pt", content)
    job.sync(job.syncer())
    job.proxy.on(REQUESTS[request_], DAMAGES[damage])
    job.restore("two", job.store({"HOLDFAST_S3_TIMEOUT_SECONDS": "0.3"}))
    assert job.files("two") == {"model.pt": content}
    assert logged() == []


@pytest.mark.parametrize("fault", [Fault(down=first_half), Fault(down=damaged)], ids=["half of it", "a flipped bit"])
def test_what_is_damaged_on_the_way_only_is_no_damage_to_verify(fault: Fault, job: Job) -> None:
    job.write("model.pt", b"m" * 1000)
    job.sync(job.syncer())
    job.proxy.on(REQUESTS["read of a file"], fault)
    assert job.verify() == []


@pytest.mark.parametrize("after", [0, 1, 100_000])
def test_a_connection_that_is_reset_in_the_middle_of_a_body_is_tried_again(after: int, job: Job) -> None:
    job.proxy.on(REQUESTS["file"], Fault(reset_up_after=after), times=3)
    job.write("model.pt", b"m" * 1_000_000)
    assert job.sync(job.syncer()).unfinished == {}
    assert job.restored() == {"model.pt": b"m" * 1_000_000}


def test_bytes_that_are_damaged_on_their_way_up_are_refused_and_sent_again(job: Job) -> None:
    job.proxy.on(REQUESTS["file"], Fault(up=flipped), times=2)
    job.proxy.on(REQUESTS["record"], Fault(up=flipped), times=2)
    job.write("model.pt", b"m" * 1_000_000)
    job.sync(job.syncer())
    assert job.restored() == {"model.pt": b"m" * 1_000_000}


def test_a_server_that_is_busy_for_longer_than_the_patience_is_named_with_its_reason(job: Job) -> None:
    job.write("model.pt", b"m")
    syncer = job.syncer()
    busy = job.proxy.always("PUT", BREAKS["throttled"])
    with pytest.raises(Exception, match=r"storing 'model.pt' failed: HTTP 503 \(SlowDown: .*given up after 8 tries"):
        job.sync(syncer)
    assert busy.fired == 8
    job.proxy.mend()
    assert job.sync(syncer).snapshot is not None
    assert job.restored() == {"model.pt": b"m"}


def test_a_lost_continuation_of_a_listing_is_no_shorter_listing(job: Job) -> None:
    def loses_the_token(answer: Answer) -> Answer:
        start, end = answer.body.index(b"<NextContinuationToken>"), answer.body.index(b"</NextContinuationToken>")
        return replace(answer, body=answer.body[:start] + answer.body[end + len(b"</NextContinuationToken>") :])

    def page_of_three(target: str) -> str:
        return target.replace("max-keys=1000", "max-keys=3")

    for number in range(10):
        job.write(f"shard {number}.pt", b"%d" % number)
    job.sync(job.syncer())
    job.proxy.on(REQUESTS["listing"], Fault(target=page_of_three, down=loses_the_token), times=2)
    job.proxy.on(r"GET .*continuation-token=", Fault(target=page_of_three, down=first_half), times=2)
    job.proxy.always(REQUESTS["listing"], Fault(target=page_of_three))
    job.restore("two")
    assert len(job.files("two")) == 10


def test_many_threads_that_are_throttled_at_random_store_everything(job: Job) -> None:
    for number in range(100):
        job.write(f"epoch/{number}.pt", b"%d" % number * 1000)
    syncer, rule = job.syncer(), job.proxy.on("PUT|HEAD", BREAKS["throttled"], times=1_000, chance=0.2)
    assert job.sync(syncer).unfinished == {}
    assert rule.fired > 5
    assert len(job.restored()) == 100


def test_faults_are_counted_and_seeded(job: Job) -> None:
    rule = job.proxy.on("PUT", BREAKS["throttled"], skip=2, times=1)
    job.write("a.pt", b"a")
    job.sync(job.syncer())  # claim, file, record
    assert rule.fired == 1
    puts = [exchange.broken for exchange in job.proxy.seen if exchange.method == "PUT"]
    assert puts[:4] == [False, False, True, False]
