"""The requests of an S3 store, byte for byte, and how it reads objects."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from tests.contract.test_objects import ODD_KEYS
from tests.s3_requests import BYTES, DONE, complete, open_at, read_all
from tests.servers import SECRET, Answer, ScriptedServer, error, listing

from holdfast.checksum import crc64nvme, to_base64
from holdfast.errors import DamagedError, FileChangedError, PermanentStoreError
from holdfast.store import Absent, Part, Upload
from holdfast.store.location import Location
from holdfast.store.s3.settings import from_environ
from holdfast.store.s3.store import S3Store
from holdfast.transfer.parts import whole_file


@pytest.mark.parametrize("key", [*ODD_KEYS, "line\nfeed", "\x01control\x7f", "a/../b", "./c", "a//b", "d/"])
def test_every_request_for_any_key_is_signed_as_it_is_sent(key: str) -> None:
    with ScriptedServer(DONE, DONE, DONE, DONE, listing()) as server:
        store = open_at(server)
        store.put(key, BYTES, metadata={"holdfast-attempt": "1", "note": "two  words"}, condition=Absent())
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


def test_a_body_is_sent_with_its_checksum_its_condition_and_its_metadata() -> None:
    with ScriptedServer(DONE) as server:
        assert open_at(server).put("k", BYTES, metadata={"holdfast-attempt": "1"}, condition=Absent()) == '"e"'
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


def test_after_a_completion_without_an_etag_a_head_gets_it() -> None:
    with ScriptedServer(
        Answer(body=b"<CompleteMultipartUploadResult><ETag/></CompleteMultipartUploadResult>"), DONE
    ) as server:
        assert complete(open_at(server)) == '"e"'
    assert server.asked == ["POST /data/p/k", "HEAD /data/p/k"]


def test_the_last_block_of_a_changed_file_is_never_sent(tmp_path: Path) -> None:
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


def test_a_limit_is_asked_for_every_byte_of_a_file_and_for_none_of_a_record(tmp_path: Path) -> None:
    file = tmp_path / "file"
    content = os.urandom(3_000_000)
    file.write_bytes(content)
    granted: list[int] = []

    def allow(wanted: int) -> int:
        granted.append(min(wanted, 70_000))
        return granted[-1]

    with ScriptedServer(DONE, DONE) as server:
        store = S3Store(Location("s3", "data", "p"), from_environ(server.environ()), allow=allow)
        store.put("record", BYTES)
        assert granted == []
        store.put("k", Part(file, 0, len(content), crc64nvme(content)))
    assert sum(granted) == len(content)
    assert server.seen[1].body == content


def test_a_limit_is_asked_for_every_byte_of_a_small_file_that_was_read_before(tmp_path: Path) -> None:
    file = tmp_path / "file"
    content = os.urandom(100_000)
    file.write_bytes(content)
    granted: list[int] = []

    def allow(wanted: int) -> int:
        granted.append(min(wanted, 70_000))
        return granted[-1]

    with ScriptedServer(DONE) as server:
        store = S3Store(Location("s3", "data", "p"), from_environ(server.environ()), allow=allow)
        store.put("k", whole_file(file, size=len(content)))
    assert granted == [70_000, 30_000]
    assert server.seen[0].body == content


def test_one_connection_serves_many_requests() -> None:
    with ScriptedServer(*[DONE] * 5) as server:
        store = open_at(server)
        for _ in range(5):
            store.put("k", BYTES)
        assert server.connections == 1


def test_a_server_that_ignores_ranges_is_refused_before_a_wrong_byte_is_passed_on() -> None:
    for options in ({"offset": 2}, {"offset": 2, "size": 2}, {"size": 2}):
        with ScriptedServer(replace(DONE, body=b"12345")) as server, pytest.raises(PermanentStoreError, match="ranges"):
            assert read_all(open_at(server), **options) == b""
    with ScriptedServer(replace(DONE, body=b"12345")) as server:
        assert read_all(open_at(server), size=5) == b"12345"


def test_a_read_requests_exactly_the_recorded_content() -> None:
    with ScriptedServer(replace(DONE, status=206, body=b"34"), error(412, "PreconditionFailed")) as server:
        store = open_at(server)
        found: list[bytes] = []
        store.read("k", offset=2, size=2, etag='"e"', sink=lambda piece: found.append(bytes(piece)))
        with pytest.raises(DamagedError, match="no longer"):
            store.read("k", etag='"e"', sink=lambda piece: None)
    assert found == [b"34"]
    assert server.seen[0].headers["range"] == "bytes=2-3"
    assert server.seen[0].headers["if-match"] == '"e"'


def test_encoded_content_is_passed_on_as_it_is_stored() -> None:
    with ScriptedServer(
        Answer(headers={**DONE.headers, "Content-Encoding": "gzip"}, body=b"not really gzip")
    ) as server:
        assert read_all(open_at(server)) == b"not really gzip"


def test_an_error_of_the_sink_is_raised_and_the_store_stays_usable() -> None:
    def full(_: memoryview) -> None:
        raise PermanentStoreError("disk full")

    with ScriptedServer(replace(DONE, body=bytes(4 << 20)), DONE) as server:
        store = open_at(server)
        with pytest.raises(PermanentStoreError, match="disk full"):
            store.read("k", sink=full)
        store.delete("k")


def test_a_store_in_s3_with_keys_in_the_environment_loads_no_botocore_and_one_in_a_directory_nothing(
    tmp_path: Path,
) -> None:
    code = (
        "import os, sys\n"
        "from holdfast.store.location import parse\n"
        "from holdfast.store.open import open_store\n"
        "list(open_store(parse(sys.argv[1], name='URI'), os.environ).list(''))\n"
        "print(*sorted({'boto3', 'botocore', 'botocore.client', 's3transfer', 'urllib3'} & set(sys.modules)))\n"
    )

    def loaded(uri: str, environ: dict[str, str]) -> list[str]:
        command = [sys.executable, "-c", code, uri]
        done = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert loaded(f"file://{tmp_path}/store", {}) == []
    with ScriptedServer(listing(), listing()) as server:
        assert loaded("s3://data/p", server.environ()) == ["urllib3"]
