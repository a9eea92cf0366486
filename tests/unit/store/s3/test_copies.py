"""Requests for copies, conditions and unfinished uploads, against a server with scripted answers."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import pytest
from tests.s3_requests import BYTES, UPLOAD, open_at
from tests.servers import SECRET, Answer, ScriptedServer, error

from holdfast.checksum import to_base64
from holdfast.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    DamagedError,
    NotFoundError,
    PermanentStoreError,
    StoreError,
    TransientStoreError,
)
from holdfast.store import Absent, Condition, Content, ObjectRange, Replaces, StoredPart, UnfinishedUpload, Upload
from holdfast.store.s3.store import S3Store

CRC = to_base64(BYTES.crc64nvme)
NO_RESULT = Answer(headers={"ETag": '"d41d8cd98f00b204e9800998ecf8427e"'})
TAKEN = error(412, "PreconditionFailed")


def copied(etag: str = '"new"', checksum: str = CRC) -> Answer:
    stated = f"<ChecksumCRC64NVME>{checksum}</ChecksumCRC64NVME>" if checksum else ""
    return Answer(body=f"<CopyObjectResult><ETag>{etag}</ETag>{stated}</CopyObjectResult>".encode())


def part_copied(checksum: str) -> Answer:
    stated = f"<ChecksumCRC64NVME>{checksum}</ChecksumCRC64NVME>" if checksum else ""
    return Answer(body=f'<CopyPartResult><ETag>"p"</ETag>{stated}</CopyPartResult>'.encode())


def source(etag: str) -> Answer:
    return Answer(headers={"ETag": etag, "Last-Modified": "Fri, 02 Jan 2026 03:04:05 GMT"})


def copy(store: S3Store, *, key: str = "from", condition: Condition | None = None) -> str:
    source = Content(key, '"e"', 5, BYTES.crc64nvme)
    return store.copy(source, "to", metadata={"holdfast-attempt": "2"}, condition=condition)


def copy_part(store: S3Store, *, crc: int | None = None) -> StoredPart:
    return store.put_part_copy(UPLOAD, 7, ObjectRange(key="from", etag='"e"', offset=100, size=50, crc64nvme=crc))


def test_a_copy_names_its_source_and_the_etag_of_it() -> None:
    with ScriptedServer(copied()) as server:
        assert copy(open_at(server), key="a b+c/ü?%") == '"new"'
    (seen,) = server.seen
    assert (seen.method, seen.target, seen.body) == ("PUT", "/data/p/to", b"")
    assert seen.headers["x-amz-copy-source"] == "/data/p/a%20b%2Bc/%C3%BC%3F%25"
    assert seen.headers["x-amz-copy-source-if-match"] == '"e"'
    assert seen.headers["x-amz-metadata-directive"] == "REPLACE"
    assert seen.headers["x-amz-meta-holdfast-attempt"] == "2"
    assert seen.headers["x-amz-checksum-algorithm"] == "CRC64NVME"
    assert not {"if-match", "if-none-match"} & set(seen.headers)
    assert seen.signature_fits(SECRET)


def test_the_conditions_of_a_copy_are_headers() -> None:
    with ScriptedServer(copied(), copied()) as server:
        copy(open_at(server), condition=Absent())
        copy(open_at(server), condition=Replaces('"old"'))
    assert (server.seen[0].headers["if-none-match"], server.seen[1].headers["if-match"]) == ("*", '"old"')


@pytest.mark.parametrize(
    ("refusal", "there", "kind"),
    [
        (TAKEN, source('"e"'), AlreadyExistsError),
        (TAKEN, source('"other"'), DamagedError),
        (TAKEN, Answer(404), NotFoundError),
        (error(404, "NoSuchKey"), source('"e"'), AlreadyExistsError),
        (error(404, "NoSuchKey"), Answer(404), NotFoundError),
        (error(200, "PreconditionFailed"), source('"e"'), AlreadyExistsError),
    ],
)
def test_a_head_finds_which_condition_of_a_copy_failed(refusal: Answer, there: Answer, kind: type[Exception]) -> None:
    with ScriptedServer(refusal, there) as server, pytest.raises(kind):
        copy(open_at(server), condition=Replaces('"old"'))
    assert server.asked == ["PUT /data/p/to", "HEAD /data/p/from"]


def test_a_copy_without_conditions_fails_only_for_its_source() -> None:
    with ScriptedServer(TAKEN, source('"other"')) as server, pytest.raises(DamagedError, match="'from' is no longer"):
        copy(open_at(server))


@pytest.mark.parametrize("code", ["InternalError", "SlowDown", "ConditionalRequestConflict"])
def test_a_copy_that_fails_after_it_was_answered_with_success_is_transient(code: str) -> None:
    with ScriptedServer(error(200, code)) as server, pytest.raises(TransientStoreError, match=code):
        copy(open_at(server))
    with ScriptedServer(error(200, code)) as server, pytest.raises(TransientStoreError, match=code):
        copy_part(open_at(server))


@pytest.mark.parametrize("answer", [NO_RESULT, replace(NO_RESULT, body=b"<Other/>")])
def test_a_copy_without_a_result_is_not_retried(answer: Answer) -> None:
    with ScriptedServer(answer) as server, pytest.raises(PermanentStoreError, match="does not support copies"):
        copy(open_at(server))


def test_a_copy_whose_checksum_the_server_states_must_have_the_recorded_one() -> None:
    with ScriptedServer(copied(checksum="AAAAAAAAAAA=")) as server, pytest.raises(DamagedError, match="'from'"):
        copy(open_at(server))


@pytest.mark.parametrize("silent", ["", "not base64"])
def test_the_source_is_checked_again_where_the_answer_has_no_checksum(silent: str) -> None:
    with ScriptedServer(copied(checksum=silent), source('"e"')) as server:
        assert copy(open_at(server)) == '"new"'
    assert server.asked == ["PUT /data/p/to", "HEAD /data/p/from"]
    with ScriptedServer(copied(checksum=silent), source('"other"')) as server, pytest.raises(DamagedError):
        copy(open_at(server))
    with ScriptedServer(part_copied(silent), source('"other"')) as server, pytest.raises(DamagedError):
        copy_part(open_at(server), crc=5)


def test_an_etag_without_quotes_gets_them() -> None:
    with ScriptedServer(copied(etag="new")) as server:
        assert copy(open_at(server)) == '"new"'


def test_after_a_copy_without_an_etag_a_head_gets_it() -> None:
    with ScriptedServer(copied(etag=""), source('"found"')) as server:
        assert copy(open_at(server)) == '"found"'


@pytest.mark.parametrize(
    ("told", "known", "kept"),
    [(CRC, None, BYTES.crc64nvme), (CRC, BYTES.crc64nvme, BYTES.crc64nvme), ("", 5, 5), ("", None, None)],
)
def test_a_copied_part_has_the_checksum_of_the_caller_or_of_the_answer(
    told: str, known: int | None, kept: int | None
) -> None:
    with ScriptedServer(part_copied(told), source('"e"')) as server:
        assert copy_part(open_at(server), crc=known) == StoredPart(7, '"p"', 50, kept)
    seen = server.seen[0]
    assert dict(parse_qsl(urlsplit(seen.target).query)) == {"partNumber": "7", "uploadId": "id"}
    assert seen.headers["x-amz-copy-source"] == "/data/p/from"
    assert seen.headers["x-amz-copy-source-range"] == "bytes=100-149"
    assert seen.headers["x-amz-copy-source-if-match"] == '"e"'


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (part_copied("AAAAAAAAAAA="), DamagedError),
        (TAKEN, DamagedError),
        (error(416, "InvalidRange"), PermanentStoreError),
        (error(404, "NoSuchKey"), NotFoundError),
        (error(404, "NoSuchUpload"), NotFoundError),
        (NO_RESULT, PermanentStoreError),
        (Answer(body=b"<html/>"), TransientStoreError),
    ],
)
def test_a_part_that_cannot_be_copied_says_why(answer: Answer, kind: type[Exception]) -> None:
    with ScriptedServer(answer) as server, pytest.raises(kind):
        copy_part(open_at(server), crc=BYTES.crc64nvme)


def test_a_completion_has_the_known_checksums() -> None:
    parts = [StoredPart(1, '"a"', 5, 0), StoredPart(2, '"b"', 5, None)]
    answer = b'<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>'
    with ScriptedServer(Answer(body=answer)) as server:
        open_at(server).complete_upload(UPLOAD, parts, crc64nvme=0, condition=Replaces('"old"'))
    (seen,) = server.seen
    assert seen.headers["if-match"] == '"old"'
    names = [[child.tag.rpartition("}")[2] for child in part] for part in ET.fromstring(seen.body)]
    assert names == [["PartNumber", "ETag", "ChecksumCRC64NVME"], ["PartNumber", "ETag"]]


@pytest.mark.parametrize(
    ("code", "condition", "kind"),
    [
        ("NoSuchKey", Replaces('"old"'), AlreadyExistsError),
        ("NoSuchUpload", Replaces('"old"'), NotFoundError),
        ("NoSuchUpload", None, NotFoundError),
    ],
)
def test_a_completion_distinguishes_a_missing_upload_from_a_missing_object(
    code: str, condition: Condition | None, kind: type[StoreError]
) -> None:
    for answer in (error(404, code), error(200, code)):
        with ScriptedServer(answer) as server, pytest.raises(kind):
            open_at(server).complete_upload(UPLOAD, [StoredPart(1, '"a"', 5, 0)], crc64nvme=0, condition=condition)


def test_a_completion_with_a_wrong_checksum_is_not_retried() -> None:
    with ScriptedServer(error(400, "BadDigest")) as server, pytest.raises(PermanentStoreError, match="do not make up"):
        open_at(server).complete_upload(UPLOAD, [StoredPart(1, '"a"', 5, 0)], crc64nvme=1)


def test_a_conditional_deletion_names_the_content() -> None:
    with ScriptedServer(Answer(204), TAKEN, error(404, "NoSuchKey")) as server:
        store = open_at(server)
        store.delete("k", etag='"e"')
        with pytest.raises(AlreadyExistsError):
            store.delete("k", etag='"e"')
        store.delete("k", etag='"e"')
    assert [seen.headers["if-match"] for seen in server.seen] == ['"e"'] * 3


def test_a_condition_on_content_needs_the_permission_to_read_it() -> None:
    denied = error(403, "AccessDenied")
    with ScriptedServer(*[denied] * 3) as server:
        store = open_at(server)
        for ask in (
            lambda: store.delete("k", etag='"e"'),
            lambda: copy(store),
            lambda: store.complete_upload(UPLOAD, [StoredPart(1, '"a"', 5, 0)], crc64nvme=0, condition=Replaces('"e"')),
        ):
            with pytest.raises(AccessDeniedError, match="and s3:"):
                ask()


def test_a_head_requests_the_checksum() -> None:
    there = source('"e"')
    told = Answer(headers={**there.headers, "x-amz-checksum-crc64nvme": CRC})
    with ScriptedServer(told, there) as server:
        store = open_at(server)
        assert store.head("k").crc64nvme == BYTES.crc64nvme
        assert store.head("k").crc64nvme is None
    assert server.seen[0].headers["x-amz-checksum-mode"] == "ENABLED"


# Unfinished uploads


def uploads(*names: str, more: tuple[str, str] | None = None) -> Answer:
    """Return a page of ListMultipartUploads; a name is `key id`."""
    entries = "".join(
        f"<Upload><Key>{name.split()[0]}</Key><UploadId>{name.split()[1]}</UploadId>"
        "<Initiated>2026-01-02T03:04:05.000Z</Initiated></Upload>"
        for name in names
    )
    tail = (
        f"<IsTruncated>true</IsTruncated><NextKeyMarker>{more[0]}</NextKeyMarker>"
        f"<NextUploadIdMarker>{more[1]}</NextUploadIdMarker>"
        if more
        else "<IsTruncated>false</IsTruncated>"
    )
    return Answer(
        body="<ListMultipartUploadsResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>"
        f"<EncodingType>url</EncodingType>{entries}{tail}</ListMultipartUploadsResult>".encode()
    )


def test_unfinished_uploads_are_listed_page_by_page() -> None:
    began = 1767323045.0
    first = uploads("p/a%20b 1", "p/a%20b 2", more=("p/a%20b", "2"))
    with ScriptedServer(first, uploads("p/%C3%BC 3", "elsewhere 4")) as server:
        found = list(open_at(server).unfinished_uploads())
    assert found == [
        UnfinishedUpload(Upload("a b", "1"), began),
        UnfinishedUpload(Upload("a b", "2"), began),
        UnfinishedUpload(Upload("ü", "3"), began),
    ]
    queries = [dict(parse_qsl(urlsplit(seen.target).query, keep_blank_values=True)) for seen in server.seen]
    asked = {"uploads": "", "prefix": "p/", "encoding-type": "url", "max-uploads": "1000"}
    assert queries == [asked, {**asked, "key-marker": "p/a b", "upload-id-marker": "2"}]


def test_a_server_that_does_not_say_whether_it_encodes_keys_is_asked_for_a_plain_listing() -> None:
    def said(key: str) -> Answer:
        return replace(
            answer := uploads(f"{key} 1"), body=answer.body.replace(b"<EncodingType>url</EncodingType>", b"")
        )

    with ScriptedServer(said("p/100%25"), said("p/100%")) as server:
        assert [found.upload.key for found in open_at(server).unfinished_uploads()] == ["100%"]
    assert ["encoding-type" in seen.target for seen in server.seen] == [True, False]


@pytest.mark.parametrize("pages", [[uploads(more=("", ""))], [uploads(more=("p/a", "1"))] * 2])
def test_a_list_of_unfinished_uploads_without_a_next_page_is_an_error(pages: list[Answer]) -> None:
    with ScriptedServer(*pages) as server, pytest.raises(TransientStoreError, match="ended early"):
        list(open_at(server).unfinished_uploads())


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(body=b"<html/>"), "not what S3 sends"),
        (Answer(body=uploads("p/a 1").body.replace(b"2026-01-02T", b"")), "not what S3 sends"),
    ],
)
def test_a_malformed_list_of_unfinished_uploads_is_transient(answer: Answer, said: str) -> None:
    with ScriptedServer(answer) as server, pytest.raises(TransientStoreError, match=said):
        list(open_at(server).unfinished_uploads())


def test_the_error_of_a_denied_list_of_uploads_names_the_permission() -> None:
    with ScriptedServer(error(403, "AccessDenied")) as server, pytest.raises(StoreError, match="ListBucketMultipart"):
        list(open_at(server).unfinished_uploads())
