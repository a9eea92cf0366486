"""Retries, against a server with scripted failures on a real socket. Pauses are recorded, not waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.logs import Logged
from tests.servers import Answer, ScriptedServer, Seen, error, listing

from holdfast.checksum import crc64nvme, to_base64
from holdfast.errors import AlreadyExistsError, DamagedError, NotFoundError, PermanentStoreError, TransientStoreError
from holdfast.stop import NEVER, StopToken
from holdfast.store import Absent, Condition, Content, ObjectRange, Part, Replaces, StoredPart, Upload
from holdfast.store.backoff import RetryPolicy
from holdfast.store.location import Location
from holdfast.store.retry import RetryingStore
from holdfast.store.s3.settings import from_environ
from holdfast.store.s3.store import S3Store

BUSY = error(503, "SlowDown")
LOST = Answer(reset_after=5)  # the whole request has come, and no answer goes back
HEAD = {"ETag": '"e"', "Last-Modified": "Fri, 02 Jan 2026 03:04:05 GMT"}
DONE = Answer(headers=HEAD)
OURS = Answer(headers={**HEAD, "x-amz-meta-holdfast-attempt": "1"}, body=b"12345")
TAKEN = error(412, "PreconditionFailed")
BYTES = Part(b"12345", 0, 5, crc64nvme(b"12345"))
METADATA = {"holdfast-attempt": "1"}


class Pauses(list[float]):
    """Records the seconds that it is called with."""

    @property
    def total(self) -> float:
        return round(sum(self), 6)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


def open_at(
    server: ScriptedServer,
    pauses: Pauses,
    policy: RetryPolicy | None = None,
    stop: StopToken = NEVER,
) -> RetryingStore:
    store = S3Store(Location("s3", "data", ""), from_environ(server.environ()))
    return RetryingStore(store, policy, stop=stop, sleep=pauses.append, random=lambda: 1.0)


def put(store: RetryingStore) -> str:
    return store.put("k", BYTES, metadata=METADATA, condition=Absent())


def test_a_transient_error_is_retried_with_longer_and_longer_pauses(pauses: Pauses) -> None:
    with ScriptedServer(BUSY, LOST, BUSY, DONE) as server:
        store = open_at(server, pauses, RetryPolicy(first_pause=0.1, longest_pause=0.3))
        assert store.put("k", BYTES) == '"e"'
    assert server.asked == ["PUT /data/k"] * 4
    assert pauses.total == 0.6


def test_a_pause_is_random_so_that_clients_do_not_return_together() -> None:
    pauses = Pauses()
    with ScriptedServer(BUSY, BUSY, DONE) as server:
        inner = S3Store(Location("s3", "data", ""), from_environ(server.environ()))
        RetryingStore(
            inner, RetryPolicy(first_pause=0.1), sleep=pauses.append, random=iter([0.25, 0.5]).__next__
        ).delete("k")
    assert pauses.total == round(0.025 + 0.1, 6)


def test_a_permanent_error_is_not_retried(pauses: Pauses) -> None:
    for answer in (error(403, "AccessDenied"), error(404, "NoSuchBucket"), error(400, "EntityTooLarge"), TAKEN):
        with ScriptedServer(answer) as server, pytest.raises(PermanentStoreError):
            put(open_at(server, pauses))
        assert len(server.seen) == 1
    assert pauses == []


def test_after_so_many_tries_the_error_says_how_many(pauses: Pauses) -> None:
    with (
        ScriptedServer(*[BUSY] * 3) as server,
        pytest.raises(TransientStoreError, match=r"SlowDown.*given up after 3 tries"),
    ):
        open_at(server, pauses, RetryPolicy(attempts=3)).check()
    assert len(server.seen) == 3
    with ScriptedServer(BUSY) as server, pytest.raises(TransientStoreError) as caught:
        open_at(server, pauses, RetryPolicy(attempts=1)).check()
    assert "given up" not in str(caught.value)


def test_no_pause_ends_after_the_seconds_of_the_policy(pauses: Pauses) -> None:
    with ScriptedServer(BUSY) as server, pytest.raises(TransientStoreError):
        open_at(server, pauses, RetryPolicy(seconds=1.0, first_pause=2.0)).check()
    assert pauses == []


def test_a_stopped_token_ends_the_retries(pauses: Pauses) -> None:
    with ScriptedServer(BUSY) as server, pytest.raises(TransientStoreError):
        open_at(server, pauses, stop=StopToken(when=lambda: True)).check()
    assert pauses == []
    with ScriptedServer(BUSY, BUSY) as server, pytest.raises(TransientStoreError):
        open_at(server, pauses, RetryPolicy(first_pause=10.0), stop=StopToken(when=lambda: len(pauses) >= 2)).check()
    assert pauses.total < 1


def test_repeated_failures_are_warned_of_once_for_all_requests(logged: Logged) -> None:
    with ScriptedServer(BUSY, DONE, *[BUSY] * 4, DONE, *[BUSY] * 2, DONE) as server:
        inner = S3Store(Location("s3", "data", ""), from_environ(server.environ()))
        store = RetryingStore(inner, sleep=lambda seconds: None)
        store.delete("a")
        assert logged() == []
        store.delete("b")
        store.delete("c")
    assert logged() == ["deleting 'b' failed: HTTP 503 (SlowDown); trying again"]


# Reading


def ranged(content: bytes, cut_after: int | None = None) -> Callable[[Seen], Answer]:
    """Answer a GET with the requested range."""

    def answer(seen: Seen) -> Answer:
        first, _, last = seen.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
        wanted = content[int(first) : int(last) + 1 if last else None]
        return Answer(206 if "range" in seen.headers else 200, HEAD, wanted, cut_after)

    return answer


@pytest.mark.parametrize(("offset", "size"), [(0, None), (3, None), (0, 100), (3, 60)])
def test_a_read_that_broke_goes_on_where_it_was(pauses: Pauses, offset: int, size: int | None) -> None:
    content = bytes(range(100))
    found: list[bytes] = []
    with ScriptedServer(ranged(content, 20), BUSY, ranged(content, 0), ranged(content, 7), ranged(content)) as server:
        open_at(server, pauses).read(
            "k", offset=offset, size=size, etag='"e"', sink=lambda piece: found.append(bytes(piece))
        )
    assert b"".join(found) == content[offset : None if size is None else offset + size]
    assert all(seen.headers["if-match"] == '"e"' for seen in server.seen)
    assert server.seen[-1].headers["range"].startswith(f"bytes={offset + 27}-")


def test_a_read_without_an_etag_stays_with_the_content_that_it_began_with(pauses: Pauses) -> None:
    with (
        ScriptedServer(replace(DONE, body=b"12345"), ranged(b"12345", 2), TAKEN) as server,
        pytest.raises(DamagedError, match="no longer"),
    ):
        open_at(server, pauses).read("k", sink=lambda piece: None)
    assert server.asked == ["HEAD /data/k", "GET /data/k", "GET /data/k"]
    assert server.seen[1].headers["if-match"] == server.seen[2].headers["if-match"] == '"e"'


def test_after_progress_of_a_read_the_tries_count_from_the_beginning(pauses: Pauses) -> None:
    content = bytes(10)
    found: list[bytes] = []
    with ScriptedServer(*[ranged(content, 1)] * 9, ranged(content)) as server:
        open_at(server, pauses, RetryPolicy(attempts=2)).read(
            "k", etag='"e"', sink=lambda piece: found.append(bytes(piece))
        )
    assert b"".join(found) == content


# Listing


def test_a_listing_that_broke_yields_nothing_twice(pauses: Pauses) -> None:
    first = listing("a", "b%20b", more="token")
    with ScriptedServer(first, BUSY, BUSY, first, LOST, listing("a", "b%20b", "c"), more_of_nothing()) as server:
        assert [info.key for info in open_at(server, pauses).list("")] == ["a", "b b", "c"]
    assert pauses.total == round(0.2 + 0.4 + 0.8, 6)


def more_of_nothing() -> Answer:
    return error(500, "InternalError")


# Writing


def test_a_conditional_write_whose_answer_was_lost_finds_its_own_object(pauses: Pauses) -> None:
    with ScriptedServer(LOST, TAKEN, OURS, OURS) as server:
        assert put(open_at(server, pauses)) == '"e"'
    assert server.asked == ["PUT /data/k", "PUT /data/k", "HEAD /data/k", "GET /data/k"]
    assert server.seen[-1].headers["if-match"] == '"e"'


@pytest.mark.parametrize(
    "there",
    [
        replace(OURS, headers={**HEAD, "x-amz-meta-holdfast-attempt": "2"}),
        replace(OURS, headers=HEAD),
        replace(OURS, body=b"123456"),
        replace(OURS, body=b"54321"),  # an earlier version of the same file, by the same attempt
    ],
)
def test_a_conditional_write_whose_answer_was_lost_does_not_take_another_object_for_its_own(
    pauses: Pauses, there: Answer
) -> None:
    with ScriptedServer(LOST, TAKEN, there, there) as server, pytest.raises(AlreadyExistsError):
        put(open_at(server, pauses))


def test_a_taken_key_is_taken_when_no_answer_was_lost(pauses: Pauses) -> None:
    with ScriptedServer(TAKEN) as server, pytest.raises(AlreadyExistsError):
        put(open_at(server, pauses))
    assert server.asked == ["PUT /data/k"]


def test_an_object_that_is_gone_before_the_head_is_not_the_own_one(pauses: Pauses) -> None:
    with ScriptedServer(LOST, TAKEN, Answer(404)) as server, pytest.raises(AlreadyExistsError):
        put(open_at(server, pauses))


def test_an_error_of_the_check_for_the_own_object_says_so(pauses: Pauses) -> None:
    with ScriptedServer(LOST, TAKEN, Answer(403)) as server, pytest.raises(PermanentStoreError) as caught:
        put(open_at(server, pauses))
    assert "earlier try" in caught.value.__notes__[0]


UPLOAD = Upload("k", "id", METADATA)
PARTS = [StoredPart(1, '"p"', 5, BYTES.crc64nvme)]


def complete(store: RetryingStore) -> str:
    return store.complete_upload(UPLOAD, PARTS, crc64nvme=BYTES.crc64nvme, condition=Absent())


@pytest.mark.parametrize("second", [error(404, "NoSuchUpload"), TAKEN])
def test_a_completion_whose_answer_was_lost_finds_its_own_object(pauses: Pauses, second: Answer) -> None:
    with ScriptedServer(LOST, second, OURS, OURS) as server:
        assert complete(open_at(server, pauses)) == '"e"'


def test_a_completion_of_an_upload_that_is_gone_is_an_error(pauses: Pauses) -> None:
    with ScriptedServer(error(404, "NoSuchUpload")) as server, pytest.raises(NotFoundError):
        complete(open_at(server, pauses))
    with ScriptedServer(LOST, error(404, "NoSuchUpload"), Answer(404)) as server, pytest.raises(NotFoundError):
        complete(open_at(server, pauses))


def copied(root: str) -> Answer:
    crc = f"<ChecksumCRC64NVME>{to_base64(BYTES.crc64nvme)}</ChecksumCRC64NVME>"
    return Answer(body=f'<{root}><ETag>"e"</ETag>{crc}</{root}>'.encode())


COPIED = copied("CopyObjectResult")
SOURCE = Answer(headers={**HEAD, "ETag": '"source"'})


def copy(store: RetryingStore, condition: Condition | None = None) -> str:
    source = Content("from", '"source"', 5, BYTES.crc64nvme)
    return store.copy(source, "k", metadata=METADATA, condition=condition)


@pytest.mark.parametrize(
    "second",
    [
        [TAKEN, SOURCE],  # the copy is at the key, so the condition no longer holds
        [TAKEN, replace(SOURCE, headers=HEAD)],  # another writer has replaced the source meanwhile
        [error(404, "NoSuchKey"), Answer(404)],  # or deleted it
    ],
)
@pytest.mark.parametrize("condition", [Absent(), Replaces('"old"')])
def test_a_copy_whose_answer_was_lost_finds_its_own_object(
    pauses: Pauses, second: list[Answer], condition: Condition
) -> None:
    with ScriptedServer(LOST, *second, OURS, OURS) as server:
        assert copy(open_at(server, pauses), condition) == '"e"'
    assert server.asked == ["PUT /data/k", "PUT /data/k", "HEAD /data/from", "HEAD /data/k", "GET /data/k"]


def test_a_copy_whose_answer_was_lost_does_not_take_another_object_for_its_own(pauses: Pauses) -> None:
    other = replace(OURS, body=b"54321")
    with ScriptedServer(LOST, TAKEN, SOURCE, other, other) as server, pytest.raises(AlreadyExistsError):
        copy(open_at(server, pauses), Replaces('"old"'))
    with ScriptedServer(LOST, TAKEN, DONE, Answer(404)) as server, pytest.raises(DamagedError):
        copy(open_at(server, pauses))


def test_a_copy_without_a_condition_is_made_again(pauses: Pauses) -> None:
    with ScriptedServer(LOST, BUSY, COPIED) as server:
        assert copy(open_at(server, pauses)) == '"e"'
    assert server.asked == ["PUT /data/k"] * 3


@pytest.mark.parametrize(("crc", "own"), [(BYTES.crc64nvme, True), (BYTES.crc64nvme ^ 1, False)])
def test_a_checksum_that_the_store_keeps_is_enough_to_know_the_own_object(pauses: Pauses, crc: int, own: bool) -> None:
    there = replace(OURS, headers={**OURS.headers, "x-amz-checksum-crc64nvme": to_base64(crc)})
    with ScriptedServer(LOST, TAKEN, there) as server:
        if own:
            assert put(open_at(server, pauses)) == '"e"'
        else:
            with pytest.raises(AlreadyExistsError):
                put(open_at(server, pauses))
    assert server.asked == ["PUT /data/k", "PUT /data/k", "HEAD /data/k"]


def test_a_deletion_whose_answer_was_lost_is_done(pauses: Pauses) -> None:
    with ScriptedServer(LOST, error(404, "NoSuchKey")) as server:
        open_at(server, pauses).delete("k", etag='"e"')
    with ScriptedServer(LOST, TAKEN) as server, pytest.raises(AlreadyExistsError):
        open_at(server, pauses).delete("k", etag='"e"')


def test_the_time_that_the_caller_spends_on_a_page_does_not_count(pauses: Pauses) -> None:
    first = listing("a", more="token")
    with ScriptedServer(first, BUSY, first, listing("a", "b"), more_of_nothing()) as server:
        found = open_at(server, pauses, RetryPolicy(seconds=1.0)).list("")
        assert next(found).key == "a"
        time.sleep(1.2)
        assert [info.key for info in found] == ["b"]


def test_a_list_of_unfinished_uploads_that_broke_yields_nothing_twice(pauses: Pauses) -> None:
    def page(*ids: str, more: bool = False) -> Answer:
        entries = "".join(
            f"<Upload><Key>k</Key><UploadId>{name}</UploadId><Initiated>2026-01-02T03:04:05Z</Initiated></Upload>"
            for name in ids
        )
        tail = "<IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>" if more else ""
        return Answer(
            body=(
                f"<ListMultipartUploadsResult><EncodingType>url</EncodingType>{entries}{tail}"
                "</ListMultipartUploadsResult>"
            ).encode()
        )

    with ScriptedServer(BUSY, page("1", "2", more=True), LOST, page("1", "2", "3")) as server:
        found = [found.upload.id for found in open_at(server, pauses).unfinished_uploads()]
    assert found == ["1", "2", "3"]


def test_every_other_request_is_repeated_too(pauses: Pauses) -> None:
    begun = Answer(body=b"<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>")
    answers = [BUSY, DONE, BUSY, begun, BUSY, DONE, BUSY, Answer(204), BUSY, Answer(204), BUSY, listing()]
    answers += [BUSY, copied("CopyPartResult")]
    with ScriptedServer(*answers) as server:
        store = open_at(server, pauses)
        store.head("k")
        assert store.begin_upload("k", part_size=5, metadata=METADATA) == Upload("k", "id", METADATA)
        store.put_part(UPLOAD, 1, BYTES)
        store.abort_upload(UPLOAD)
        store.delete("k")
        store.check()
        store.put_part_copy(UPLOAD, 1, ObjectRange(key="from", etag='"e"', offset=0, size=5))
    assert len(server.seen) == len(answers)
