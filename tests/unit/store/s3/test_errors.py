"""Errors for refusals and malformed answers, over a real socket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.s3_requests import BYTES, DONE, complete, open_at, read_all
from tests.servers import SECRET, Answer, ScriptedServer, Seen, error, listing

from holdfast.checksum import to_base64
from holdfast.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    DamagedError,
    NoBucketError,
    NotFoundError,
    PermanentStoreError,
    StoreError,
    TransientStoreError,
)
from holdfast.store.s3.errors import BadDigestError, NoUploadError
from holdfast.store.s3.store import S3Store


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (error(503, "SlowDown"), TransientStoreError, "SlowDown"),
        (error(500, "InternalError"), TransientStoreError, "InternalError"),
        (error(429, "TooManyRequests"), TransientStoreError, "429"),
        (error(400, "RequestTimeout"), TransientStoreError, "RequestTimeout"),
        (error(400, "BadDigest", "The CRC64NVME you specified did not match"), BadDigestError, "BadDigest"),
        (error(409, "ConditionalRequestConflict"), TransientStoreError, "409"),
        (Answer(502, body=b"<html><p>Bad Gateway"), TransientStoreError, "HTTP 502"),
        (Answer(504), TransientStoreError, "HTTP 504"),
        (error(404, "NoSuchBucket"), NoBucketError, "no bucket 'data' at http://127.0.0.1"),
        (error(404, "NoSuchKey"), NotFoundError, "'k'"),
        (error(412, "PreconditionFailed"), AlreadyExistsError, "'k'"),
        (error(403, "AccessDenied"), AccessDeniedError, "need s3:PutObject on bucket 'data'"),
        (error(401, "Whatever"), AccessDeniedError, "s3:PutObject"),
        (error(403, "InvalidAccessKeyId", "no such key"), AccessDeniedError, "no such key"),
        (error(403, "RequestTimeTooSkewed"), AccessDeniedError, "clock is wrong"),
        (error(501, "NotImplemented", "A header you provided"), PermanentStoreError, "CRC64NVME"),
        (error(400, "InvalidRequest", "Unsupported checksum algorithm"), PermanentStoreError, "supports CRC64NVME"),
        (error(400, "EntityTooLarge"), PermanentStoreError, "EntityTooLarge"),
    ],
)  # fmt: skip
def test_each_answer_of_a_server_becomes_an_error_with_advice(
    answer: Answer, kind: type[StoreError], said: str
) -> None:
    with ScriptedServer(answer) as server, pytest.raises(kind, match=said) as caught:
        open_at(server).put("k", BYTES)
    assert caught.type is kind
    assert SECRET not in str(caught.value)


def test_an_error_does_not_repeat_parts_of_the_request() -> None:
    def tell_all(seen: Seen) -> Answer:
        text = "".join(f"{name}:{value}" for name, value in seen.headers.items())
        return Answer(
            403,
            body=f"<Error><Code>SignatureDoesNotMatch</Code><CanonicalRequest>{text}</CanonicalRequest></Error>".encode(),
        )

    with ScriptedServer(tell_all) as server, pytest.raises(AccessDeniedError) as caught:
        open_at(server, AWS_SESSION_TOKEN="a session").put("k", BYTES)
    assert "a session" not in str(caught.value)
    assert "Signature=" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("InternalError", TransientStoreError),
        ("SlowDown", TransientStoreError),
        ("PreconditionFailed", AlreadyExistsError),
        ("NoSuchUpload", NoUploadError),
        ("InvalidPart", PermanentStoreError),
    ],
)
def test_an_error_in_the_body_of_a_success_is_an_error(code: str, kind: type[StoreError]) -> None:
    with (
        ScriptedServer(replace(error(200, code), body=b"  \n " + error(200, code).body)) as server,
        pytest.raises(kind) as caught,
    ):
        complete(open_at(server))
    assert caught.type is kind


@pytest.mark.parametrize(
    "body", [b"", b"<html>Welcome to the hotel's network", b"<ListBucketResult><Contents>", b"<html/>"]
)
def test_a_malformed_listing_is_transient(body: bytes) -> None:
    with ScriptedServer(Answer(body=body)) as server, pytest.raises(TransientStoreError, match=r"not .* S3 sends"):
        list(open_at(server).list(""))


def test_a_listing_with_malformed_entries_is_transient() -> None:
    bad = replace(listing("p/k"), body=listing("p/k").body.replace(b"<Size>1<", b"<Size>many<"))
    with ScriptedServer(bad) as server, pytest.raises(TransientStoreError, match="not what S3 sends"):
        list(open_at(server).list(""))
    no_token = replace(
        listing("p/k"), body=listing("p/k", more="").body.replace(b"</ListB", b"<IsTruncated>true</IsTruncated></ListB")
    )
    with ScriptedServer(no_token) as server, pytest.raises(TransientStoreError, match="ended early"):
        list(open_at(server).list(""))


def test_a_listing_goes_on_from_page_to_page_and_decodes_its_keys() -> None:
    with ScriptedServer(listing("p/", "p/a%0Ab", "p/b+c", more="to/ken+="), listing("p/b%2Bc", "p/%C3%BC")) as server:
        assert [info.key for info in open_at(server).list("")] == ["a\nb", "b c", "b+c", "ü"]
    assert "continuation-token=to%2Fken%2B%3D" in server.seen[1].target
    assert all(seen.signature_fits(SECRET) for seen in server.seen)


@pytest.mark.parametrize("keys", [("p/b", "p/a"), ("p/a", "other/b")])
def test_a_bucket_that_lists_out_of_order_is_refused(keys: tuple[str, str]) -> None:
    with ScriptedServer(listing(*keys)) as server, pytest.raises(PermanentStoreError, match="general purpose bucket"):
        list(open_at(server).list(""))


def test_a_malformed_answer_to_a_head_is_transient() -> None:
    with ScriptedServer(Answer()) as server, pytest.raises(TransientStoreError, match="not what S3 sends"):
        open_at(server).head("k")


def test_an_upload_without_an_id_is_transient() -> None:
    with ScriptedServer(Answer(body=b"<InitiateMultipartUploadResult/>")) as server, pytest.raises(TransientStoreError):
        open_at(server).begin_upload("k", part_size=5 << 20)


def test_bytes_that_arrived_damaged_are_sent_again() -> None:
    wrong = replace(DONE, headers={**DONE.headers, "x-amz-checksum-crc64nvme": to_base64(1)})
    with ScriptedServer(wrong) as server, pytest.raises(TransientStoreError, match="other bytes"):
        open_at(server).put("k", BYTES)


@pytest.mark.parametrize("method", ["put", "complete", "read", "list"])
@pytest.mark.parametrize("status", [200, 404])
def test_the_page_of_a_proxy_is_not_an_answer(method: str, status: int) -> None:
    page = Answer(status, {"Content-Type": "text/html"}, b"<html><body>We are being maintained</body></html>")
    ask: Callable[[S3Store], object] = {
        "put": lambda store: store.put("k", BYTES),
        "complete": complete,
        "read": read_all,
        "list": lambda store: list(store.list("")),
    }[method]
    with ScriptedServer(page) as server, pytest.raises(TransientStoreError, match=r"not what S3 sends|is not from S3"):
        ask(open_at(server))


def test_the_error_of_a_denying_page_says_where_it_may_come_from() -> None:
    page = Answer(403, body=b"<html>The proxy does not let you</html>")
    with ScriptedServer(page) as server, pytest.raises(AccessDeniedError, match="proxy variables"):
        open_at(server).put("k", BYTES)


def test_other_content_from_a_server_that_ignores_conditions_is_not_read() -> None:
    found: list[bytes] = []
    with ScriptedServer(replace(DONE, body=b"12345")) as server, pytest.raises(DamagedError, match="replaced"):
        open_at(server).read("k", etag='"other"', sink=lambda piece: found.append(bytes(piece)))
    assert found == []
