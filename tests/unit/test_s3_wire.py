"""The S3 store against a server on loopback that misbehaves as told."""

from __future__ import annotations

import datetime
import ipaddress
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from holdfast.checksum import crc64nvme, to_base64
from holdfast.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    ConfigError,
    DamagedError,
    FileChangedError,
    HoldfastError,
    NoBucketError,
    NotFoundError,
    PermanentStoreError,
    StoreError,
    TransientStoreError,
)
from holdfast.location import Location
from holdfast.s3 import S3Store
from holdfast.s3_settings import from_environ
from holdfast.store import Part, StoredPart, Upload
from tests.contract.test_objects import ODD_KEYS
from tests.servers import KEYS, SECRET, Answer, ScriptedServer, Seen, error, listing

DONE = Answer(headers={"ETag": '"e"', "Last-Modified": "Fri, 02 Jan 2026 03:04:05 GMT"})
BYTES = Part(b"12345", 0, 5, crc64nvme(b"12345"))
UPLOAD = Upload("k", "id")
PARTS = [StoredPart(1, '"p"', 5, BYTES.crc64nvme)]


def open_at(server: ScriptedServer, prefix: str = "p", **environ: str) -> S3Store:
    return S3Store(Location("s3", "data", prefix), from_environ(server.environ(**environ)))


def complete(store: S3Store) -> str:
    return store.complete_upload(UPLOAD, PARTS, crc64nvme=BYTES.crc64nvme, only_if_absent=True)


# Signatures


@pytest.mark.parametrize("key", [*ODD_KEYS, "line\nfeed", "\x01control\x7f", "a/../b", "./c", "a//b", "d/"])
def test_every_request_for_any_key_is_signed_as_it_is_sent(key: str) -> None:
    with ScriptedServer(DONE, DONE, DONE, DONE, listing()) as server:
        store = open_at(server)
        store.put(key, BYTES, metadata={"holdfast-attempt": "1", "note": "two  words"}, only_if_absent=True)
        store.head(key)
        store.put_part(Upload(key, "id/with+odd=signs"), 7, BYTES)
        store.delete(key)
        list(store.list(key))
    assert len(server.seen) == 5
    for seen in server.seen:
        assert seen.signature_fits(SECRET), seen.target
        assert not seen.signature_fits("another secret")
        assert seen.headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"


@pytest.mark.parametrize("key", [*ODD_KEYS, "line\nfeed", "a/../b", "./c", "a//b"])
def test_a_key_is_written_into_the_path_as_boto3_writes_it(key: str) -> None:
    with ScriptedServer(DONE, DONE) as server:
        open_at(server).delete(key)
        client = boto3.client(
            "s3", endpoint_url=server.endpoint, region_name="us-east-1", aws_access_key_id="ACCESSKEY",
            aws_secret_access_key=SECRET, config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
        )  # fmt: skip
        client.delete_object(Bucket="data", Key=f"p/{key}")
        client.close()
    ours, theirs = server.seen
    assert ours.target.encode() == theirs.target.encode()
    assert theirs.signature_fits(SECRET)


def test_a_session_token_is_sent_and_signed() -> None:
    with ScriptedServer(DONE) as server:
        open_at(server, AWS_SESSION_TOKEN="session").delete("k")
    (seen,) = server.seen
    assert seen.headers["x-amz-security-token"] == "session"
    assert "x-amz-security-token" in seen.headers["authorization"]
    assert seen.signature_fits(SECRET)


def test_a_body_travels_with_its_checksum_its_condition_and_its_metadata() -> None:
    with ScriptedServer(DONE) as server:
        assert open_at(server).put("k", BYTES, metadata={"holdfast-attempt": "1"}, only_if_absent=True) == '"e"'
    (seen,) = server.seen
    assert seen.body == b"12345"
    assert seen.headers["x-amz-checksum-crc64nvme"] == to_base64(BYTES.crc64nvme)
    assert seen.headers["if-none-match"] == "*"
    assert seen.headers["x-amz-meta-holdfast-attempt"] == "1"
    assert "transfer-encoding" not in seen.headers


def test_a_completion_names_the_parts_and_the_checksum_of_the_whole() -> None:
    answer = Answer(body=b"<CompleteMultipartUploadResult><ETag>&quot;e&quot;</ETag></CompleteMultipartUploadResult>")
    with ScriptedServer(answer) as server:
        assert complete(open_at(server)) == '"e"'
    (seen,) = server.seen
    assert seen.headers["x-amz-checksum-crc64nvme"] == to_base64(BYTES.crc64nvme)
    assert seen.headers["x-amz-checksum-type"] == "FULL_OBJECT"
    assert seen.headers["x-amz-mp-object-size"] == "5"
    assert seen.headers["if-none-match"] == "*"
    assert b"<PartNumber>1</PartNumber>" in seen.body
    assert to_base64(BYTES.crc64nvme).encode() in seen.body


def test_a_completion_without_a_name_for_what_it_made_asks_for_it() -> None:
    with ScriptedServer(
        Answer(body=b"<CompleteMultipartUploadResult><ETag/></CompleteMultipartUploadResult>"), DONE
    ) as server:
        assert complete(open_at(server)) == '"e"'
    assert server.asked == ["POST /data/p/k", "HEAD /data/p/k"]


# Credentials


def run_with(environ: dict[str, str], home: Path) -> subprocess.CompletedProcess[str]:
    """Open a store and list it, in a process whose environment holds nothing but what is given."""
    code = (
        "import os, sys\n"
        "from holdfast.errors import HoldfastError\n"
        "from holdfast.location import Location\n"
        "from holdfast.s3 import S3Store\n"
        "from holdfast.s3_settings import from_environ\n"
        "try:\n"
        "    print(len(list(S3Store(Location('s3', 'data', 'p'), from_environ(os.environ)).list(''))))\n"
        "except HoldfastError as error:\n"
        "    sys.exit(f'{type(error).__name__}: {error}')\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"HOME": str(home), "AWS_EC2_METADATA_DISABLED": "true", **environ},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_the_role_of_a_container_signs(tmp_path: Path) -> None:
    ends = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
    role = f'{{"AccessKeyId":"ROLE","SecretAccessKey":"{SECRET}","Token":"session","Expiration":"{ends}"}}'
    with ScriptedServer(Answer(body=role.encode())) as agent, ScriptedServer(listing("p/a", "p/b")) as server:
        environ = {
            "AWS_ENDPOINT_URL_S3": server.endpoint,
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{agent.endpoint}/role",
        }
        done = run_with(environ, tmp_path)
    assert (done.stdout, done.stderr) == ("2\n", "")
    (seen,) = server.seen
    assert "Credential=ROLE/" in seen.headers["authorization"]
    assert "/us-east-1/s3/" in seen.headers["authorization"]
    assert seen.headers["x-amz-security-token"] == "session"
    assert seen.signature_fits(SECRET)


def test_a_profile_signs_and_says_the_region(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text(
        f"[work]\naws_access_key_id = PROFILE\naws_secret_access_key = {SECRET}\n"
    )
    (tmp_path / ".aws/config").write_text("[profile work]\nregion = eu-west-3\n")
    with ScriptedServer(listing()) as server:
        done = run_with({"AWS_ENDPOINT_URL_S3": server.endpoint, "AWS_PROFILE": "work"}, tmp_path)
    assert (done.stdout, done.stderr) == ("0\n", "")
    authorization = server.seen[0].headers["authorization"]
    assert "Credential=PROFILE/" in authorization
    assert "/eu-west-3/s3/" in authorization


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "AccessDeniedError: no AWS credentials were found: give the machine, task or pod a role"),
        ({"AWS_PROFILE": "nowhere"}, "check AWS_PROFILE"),
        (
            {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/role"},
            "TransientStoreError: the AWS credentials could not",
        ),
    ],
)
def test_credentials_that_are_not_there_are_said_to_be_missing(
    environ: dict[str, str], said: str, tmp_path: Path
) -> None:
    with ScriptedServer(listing()) as server:
        done = run_with({"AWS_ENDPOINT_URL_S3": server.endpoint, **environ}, tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert server.seen == []


def test_credentials_that_have_expired_are_looked_up_once_more() -> None:
    with ScriptedServer(error(400, "ExpiredToken"), DONE) as server:
        open_at(server).put("k", BYTES)
    assert [seen.body for seen in server.seen] == [b"12345", b"12345"]
    with (
        ScriptedServer(error(400, "ExpiredToken"), error(400, "ExpiredToken")) as server,
        pytest.raises(AccessDeniedError, match="session token has expired"),
    ):
        open_at(server).put("k", BYTES)


# Regions


@pytest.mark.parametrize(
    "answer",
    [
        error(301, "PermanentRedirect", x_amz_bucket_region="eu-west-1"),
        Answer(400, body=b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>"),
        Answer(307, {"x-amz-bucket-region": "eu-west-1"}),
    ],
)
def test_a_bucket_elsewhere_is_found_once_and_remembered(answer: Answer) -> None:
    with ScriptedServer(answer, DONE, DONE) as server:
        store = open_at(server)
        store.put("k", BYTES)
        store.delete("k")
    regions = [seen.headers["authorization"].split("/")[2] for seen in server.seen]
    assert regions == ["us-east-1", "eu-west-1", "eu-west-1"]
    assert all(seen.signature_fits(SECRET) for seen in server.seen)


def test_a_server_that_sends_on_for_ever_is_left() -> None:
    sent_on = [error(301, "PermanentRedirect", x_amz_bucket_region=region) for region in ("eu-west-1", "eu-west-2")]
    with ScriptedServer(*sent_on) as server, pytest.raises(PermanentStoreError, match="set AWS_REGION"):
        open_at(server).check()


# Errors


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (error(503, "SlowDown"), TransientStoreError, "SlowDown"),
        (error(500, "InternalError"), TransientStoreError, "InternalError"),
        (error(429, "TooManyRequests"), TransientStoreError, "429"),
        (error(400, "RequestTimeout"), TransientStoreError, "RequestTimeout"),
        (error(400, "BadDigest", "The CRC64NVME you specified did not match"), TransientStoreError, "BadDigest"),
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
        (error(400, "InvalidRequest", "Unsupported checksum algorithm"), PermanentStoreError, "takes CRC64NVME"),
        (error(400, "EntityTooLarge"), PermanentStoreError, "EntityTooLarge"),
    ],
)  # fmt: skip
def test_what_a_server_says_becomes_an_error_that_says_what_to_do(
    answer: Answer, kind: type[StoreError], said: str
) -> None:
    with ScriptedServer(answer) as server, pytest.raises(kind, match=said) as caught:
        open_at(server).put("k", BYTES)
    assert caught.type is kind
    assert SECRET not in str(caught.value)


def test_what_a_server_repeats_of_the_request_is_not_repeated_again() -> None:
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
        ("NoSuchUpload", NotFoundError),
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
def test_a_listing_that_is_none_is_transient(body: bytes) -> None:
    with ScriptedServer(Answer(body=body)) as server, pytest.raises(TransientStoreError, match="not .* S3 sends"):
        list(open_at(server).list(""))


def test_a_listing_with_entries_that_make_no_sense_is_transient() -> None:
    bad = replace(listing("p/k"), body=listing("p/k").body.replace(b"<Size>1<", b"<Size>many<"))
    with ScriptedServer(bad) as server, pytest.raises(TransientStoreError, match="not what S3 sends"):
        list(open_at(server).list(""))
    no_token = replace(
        listing("p/k"), body=listing("p/k", more="").body.replace(b"</ListB", b"<IsTruncated>true</IsTruncated></ListB")
    )
    with ScriptedServer(no_token) as server, pytest.raises(TransientStoreError, match="broke off"):
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


def test_a_description_that_is_none_is_transient() -> None:
    with ScriptedServer(Answer()) as server, pytest.raises(TransientStoreError, match="not what S3 sends"):
        open_at(server).head("k")


def test_an_upload_without_a_name_is_transient() -> None:
    with ScriptedServer(Answer(body=b"<InitiateMultipartUploadResult/>")) as server, pytest.raises(TransientStoreError):
        open_at(server).begin_upload("k")


def test_bytes_that_arrived_otherwise_are_sent_again() -> None:
    wrong = replace(DONE, headers={**DONE.headers, "x-amz-checksum-crc64nvme": to_base64(1)})
    with ScriptedServer(wrong) as server, pytest.raises(TransientStoreError, match="other bytes"):
        open_at(server).put("k", BYTES)


# Connections that break


def read_all(store: S3Store, **options: int) -> bytes:
    found: list[bytes] = []
    store.read("k", sink=lambda piece: found.append(bytes(piece)), **options)
    return b"".join(found)


@pytest.mark.parametrize(
    ("answer", "ask"),
    [
        (Answer(reset_after=0), S3Store.check),
        (Answer(body=b"x" * 100, cut_after=40), read_all),
        (Answer(206, {"Content-Range": "bytes 0-9/10"}, b"x" * 4), lambda store: read_all(store, size=10)),
        (Answer(body=b"<ListBucketResult></ListBucketResult>", cut_after=8), lambda store: list(store.list(""))),
        (Answer(503, body=b"x" * 100, cut_after=40), S3Store.check),
        (Answer(reset_after=3), lambda store: store.put("k", BYTES)),
        (Answer(reset_after=1 << 20), lambda store: store.put("k", Part(bytes(32 << 20), 0, 32 << 20, crc64nvme(bytes(32 << 20))))),
    ],
)  # fmt: skip
def test_a_connection_that_breaks_is_transient_and_the_next_one_works(
    answer: Answer, ask: Callable[[S3Store], object]
) -> None:
    with ScriptedServer(answer, DONE) as server:
        store = open_at(server)
        with pytest.raises(TransientStoreError):
            ask(store)
        store.delete("k")


def test_a_server_that_says_nothing_is_left_after_a_while() -> None:
    release = threading.Event()
    with ScriptedServer(Answer(waits_for=release)) as server:
        settings = replace(from_environ(server.environ()), read_seconds=0.2)
        with pytest.raises(TransientStoreError, match="does not answer"):
            S3Store(Location("s3", "data", ""), settings).check()
        release.set()


def test_a_server_that_takes_a_body_slowly_is_not_left() -> None:
    """The time limit for connecting must not count for sending."""
    release = threading.Event()
    size = 32 << 20
    part = Part(bytes(size), 0, size, crc64nvme(bytes(size)))
    with ScriptedServer(replace(DONE, waits_for=release)) as server:
        settings = replace(from_environ(server.environ()), connect_seconds=0.2)
        threading.Timer(1.0, release.set).start()
        assert S3Store(Location("s3", "data", ""), settings).put("k", part) == '"e"'


def test_nobody_at_the_address_is_transient_and_named() -> None:
    store = S3Store(
        Location("s3", "data", ""),
        from_environ({**KEYS, "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}),
    )
    with pytest.raises(TransientStoreError, match=r"http://127\.0\.0\.1:1 does not answer \(Connection refused\)"):
        store.check()
    settings = replace(from_environ(KEYS), endpoint="http://nowhere.invalid")
    with pytest.raises(TransientStoreError, match=r"http://nowhere\.invalid has no address"):
        S3Store(Location("s3", "data", ""), settings).check()


# Reading


def test_a_server_that_ignores_ranges_is_refused_before_a_wrong_byte_is_kept() -> None:
    for options in ({"offset": 2}, {"offset": 2, "size": 2}, {"size": 2}):
        with ScriptedServer(Answer(body=b"12345")) as server, pytest.raises(PermanentStoreError, match="ranges"):
            assert read_all(open_at(server), **options) == b""
    with ScriptedServer(Answer(body=b"12345")) as server:
        assert read_all(open_at(server), size=5) == b"12345"


def test_a_read_asks_for_exactly_the_content_that_was_recorded() -> None:
    with ScriptedServer(Answer(206, body=b"34"), error(412, "PreconditionFailed")) as server:
        store = open_at(server)
        found: list[bytes] = []
        store.read("k", offset=2, size=2, etag='"e"', sink=lambda piece: found.append(bytes(piece)))
        with pytest.raises(DamagedError, match="no longer"):
            store.read("k", etag='"e"', sink=lambda piece: None)
    assert found == [b"34"]
    assert server.seen[0].headers["range"] == "bytes=2-3"
    assert server.seen[0].headers["if-match"] == '"e"'


def test_encoded_content_is_handed_on_as_it_is_stored() -> None:
    with ScriptedServer(Answer(headers={"Content-Encoding": "gzip"}, body=b"not really gzip")) as server:
        assert read_all(open_at(server)) == b"not really gzip"


def test_an_error_of_the_sink_is_passed_on_and_the_store_goes_on() -> None:
    def full(_: memoryview) -> None:
        raise PermanentStoreError("disk full")

    with ScriptedServer(Answer(body=bytes(4 << 20)), DONE) as server:
        store = open_at(server)
        with pytest.raises(PermanentStoreError, match="disk full"):
            store.read("k", sink=full)
        store.delete("k")


# Sending


def test_the_last_piece_of_a_changed_file_is_never_sent(tmp_path: Path) -> None:
    file = tmp_path / "file"
    size = 2 << 20
    file.write_bytes(bytes(size))
    part = Part(file, 0, size, crc64nvme(bytes(size)))
    with file.open("r+b") as changed:
        changed.write(b"x")
    with ScriptedServer(DONE, DONE) as server:
        store = open_at(server)
        with pytest.raises(FileChangedError):
            store.put("k", part)
        store.delete("k")
        sent = [len(seen.body) for seen in server.seen if seen.method == "PUT"]
    assert all(length < size for length in sent)


def test_one_connection_serves_many_requests() -> None:
    with ScriptedServer(*[DONE] * 5) as server:
        store = open_at(server)
        for _ in range(5):
            store.put("k", BYTES)
        pool = store._wire._connections.pool(server.endpoint)
        assert pool.num_connections == 1


# Proxies and TLS


def test_a_proxy_gets_the_whole_url_of_a_plain_request() -> None:
    with ScriptedServer(DONE, DONE) as proxy:
        environ = proxy.environ(AWS_ENDPOINT_URL_S3="http://storage.invalid:9000", http_proxy=proxy.endpoint)
        S3Store(Location("s3", "data", "p"), from_environ(environ)).delete("a b")
        (seen,) = proxy.seen
        assert seen.target == "http://storage.invalid:9000/data/p/a%20b"
        assert seen.headers["host"] == "storage.invalid:9000"
        S3Store(
            Location("s3", "data", "p"),
            from_environ(proxy.environ(http_proxy="http://127.0.0.1:1", no_proxy="127.0.0.1")),
        ).delete("k")


def test_a_proxy_makes_a_tunnel_for_tls() -> None:
    with ScriptedServer(Answer(403)) as proxy:
        environ = proxy.environ(AWS_ENDPOINT_URL_S3="https://storage.invalid", https_proxy=proxy.endpoint)
        with pytest.raises(TransientStoreError, match="through the proxy"):
            S3Store(Location("s3", "data", "p"), from_environ(environ)).delete("k")
    assert [(seen.method, seen.target) for seen in proxy.seen] == [("CONNECT", "storage.invalid:443")]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for 127.0.0.1 that nobody trusts, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(folder / "cert.pem"), str(folder / "key.pem")


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_certificate_is_trusted_when_its_authority_is_named(certificate: tuple[str, str], variable: str) -> None:
    size = 3 << 20
    with ScriptedServer(DONE, Answer(body=bytes(size)), tls=certificate) as server:
        store = open_at(server, **{variable: certificate[0]})
        store.put("k", Part(bytes(size), 0, size, crc64nvme(bytes(size))))
        assert len(read_all(store)) == size
    assert server.seen[0].signature_fits(SECRET)
    assert len(server.seen[0].body) == size


def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: tuple[str, str]) -> None:
    with ScriptedServer(DONE, tls=certificate) as server, pytest.raises(PermanentStoreError, match="set AWS_CA_BUNDLE"):
        open_at(server).delete("k")
    assert server.seen == []


def test_a_file_of_certificates_that_is_none_is_a_configuration_error(tmp_path: Path) -> None:
    for bundle in (tmp_path / "missing.pem", tmp_path / "empty.pem"):
        with pytest.raises(ConfigError, match="AWS_CA_BUNDLE") as caught:
            environ = {**KEYS, "AWS_ENDPOINT_URL_S3": "https://127.0.0.1:1", "AWS_CA_BUNDLE": str(bundle)}
            S3Store(Location("s3", "data", "p"), from_environ(environ)).delete("k")
        assert isinstance(caught.value, HoldfastError)
        (tmp_path / "empty.pem").write_text("no certificate")


# What is loaded


def test_a_store_in_s3_loads_no_boto3_and_one_in_a_directory_no_botocore(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from holdfast.location import parse\n"
        "from holdfast.opening import open_store\n"
        "list(open_store(parse(sys.argv[1], name='URI'), os.environ).list(''))\n"
        "print(*sorted({'boto3', 'botocore', 'botocore.client', 's3transfer', 'urllib3'} & set(sys.modules)))\n"
    )

    def loaded(uri: str, environ: dict[str, str]) -> list[str]:
        command = [sys.executable, "-c", code, uri]
        done = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert loaded(f"file://{tmp_path}/store", {}) == []
    with ScriptedServer(listing(), listing()) as server:
        assert loaded("s3://data/p", server.environ()) == ["botocore", "urllib3"]
