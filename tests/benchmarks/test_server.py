"""The server that benchmarks measure against, asked by boto3: what it stores it gives back, as S3 does."""

import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import pytest
from benchmarks.server import Server, serve
from botocore.config import Config
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PART = 5 << 20
CONTENT = os.urandom(2 * PART + 1000)


@pytest.fixture(scope="module", params=[False, True], ids=["http", "tls"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serve(tls=request.param, most_gib=0.1) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator["S3Client"]:
    made = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        verify=str(server.authority) if server.authority else None,
        config=Config(retries={"total_max_attempts": 1}),
    )
    yield made
    made.close()
    server.forget("data")


def refusal(error: pytest.ExceptionInfo[ClientError]) -> str:
    return error.value.response["Error"]["Code"]


def upload_in_parts(client: "S3Client", key: str) -> None:
    identity = client.create_multipart_upload(Bucket="data", Key=key, ChecksumAlgorithm="CRC64NVME")["UploadId"]
    where = {"Bucket": "data", "Key": key, "UploadId": identity}
    parts = []
    for number, offset in enumerate(range(0, len(CONTENT), PART), start=1):
        body = CONTENT[offset : offset + PART]
        etag = client.upload_part(**where, PartNumber=number, Body=body)["ETag"]  # type: ignore[arg-type]
        parts.append({"PartNumber": number, "ETag": etag})
    client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})  # type: ignore[arg-type, typeddict-item]


def read(client: "S3Client", key: str, **more: str) -> bytes:
    return client.get_object(Bucket="data", Key=key, **more)["Body"].read()  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 5, 2 << 20])
def test_what_was_put_comes_back_with_its_metadata(client: "S3Client", size: int) -> None:
    client.put_object(Bucket="data", Key="a", Body=CONTENT[:size], Metadata={"mtime": "17"})
    assert read(client, "a") == CONTENT[:size]
    assert client.head_object(Bucket="data", Key="a")["Metadata"] == {"mtime": "17"}


def test_parts_become_one_object(client: "S3Client") -> None:
    upload_in_parts(client, "a")
    assert read(client, "a") == CONTENT


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        (f"bytes={PART - 1}-{PART}", PART - 1, PART + 1),
        ("bytes=-7", -7, None),
        ("bytes=9-", 9, None),
    ],
)
def test_a_range_may_lie_across_parts(client: "S3Client", asked: str, first: int, end: int | None) -> None:
    upload_in_parts(client, "a")
    assert read(client, "a", Range=asked) == CONTENT[first:end]


def test_a_range_behind_the_end_is_refused(client: "S3Client") -> None:
    client.put_object(Bucket="data", Key="a", Body=b"12345")
    with pytest.raises(ClientError) as error:
        read(client, "a", Range="bytes=5-")
    assert refusal(error) == "InvalidRange"


def test_a_part_of_an_upload_may_be_copied_from_another_object(client: "S3Client") -> None:
    upload_in_parts(client, "source")
    identity = client.create_multipart_upload(Bucket="data", Key="copy", ChecksumAlgorithm="CRC64NVME")["UploadId"]
    parts = []
    for number, (first, last) in enumerate([(0, PART - 1), (PART, len(CONTENT) - 1)], start=1):
        copied = client.upload_part_copy(
            Bucket="data",
            Key="copy",
            UploadId=identity,
            PartNumber=number,
            CopySource={"Bucket": "data", "Key": "source"},
            CopySourceRange=f"bytes={first}-{last}",
        )["CopyPartResult"]
        assert copied["ChecksumCRC64NVME"]
        parts.append({"PartNumber": number, "ETag": copied["ETag"]})
    client.complete_multipart_upload(
        Bucket="data",
        Key="copy",
        UploadId=identity,
        MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
    )
    assert read(client, "copy") == CONTENT


def test_a_copy_outlives_its_source(client: "S3Client") -> None:
    upload_in_parts(client, "a")
    client.copy_object(Bucket="data", Key="b", CopySource={"Bucket": "data", "Key": "a"})
    client.delete_object(Bucket="data", Key="a")
    assert read(client, "b") == CONTENT


def test_conditions_are_kept(client: "S3Client") -> None:
    etag = client.put_object(Bucket="data", Key="a", Body=b"1", IfNoneMatch="*")["ETag"]
    with pytest.raises(ClientError) as error:
        client.put_object(Bucket="data", Key="a", Body=b"2", IfNoneMatch="*")
    assert refusal(error) == "PreconditionFailed"
    client.put_object(Bucket="data", Key="a", Body=b"3", IfMatch=etag)
    with pytest.raises(ClientError) as error:
        client.put_object(Bucket="data", Key="a", Body=b"4", IfMatch=etag)
    assert refusal(error) == "PreconditionFailed"
    assert read(client, "a") == b"3"


def test_listings_are_in_order_page_by_page_and_by_folder(client: "S3Client") -> None:
    keys = ["a b", "a/1", "a/2", "b&<c", "ü"]
    for key in reversed(keys):
        client.put_object(Bucket="data", Key=key)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="data", PaginationConfig={"PageSize": 2})
    assert [entry["Key"] for page in pages for entry in page["Contents"]] == keys
    folded = client.list_objects_v2(Bucket="data", Delimiter="/")
    assert [entry["Prefix"] for entry in folded["CommonPrefixes"]] == ["a/"]
    assert [entry["Key"] for entry in folded["Contents"]] == ["a b", "b&<c", "ü"]


def test_uploads_under_way_are_listed_until_they_are_aborted(client: "S3Client") -> None:
    identity = client.create_multipart_upload(Bucket="data", Key="a")["UploadId"]
    client.upload_part(Bucket="data", Key="a", UploadId=identity, PartNumber=3, Body=b"123")
    parts = client.list_parts(Bucket="data", Key="a", UploadId=identity)["Parts"]
    assert [(part["PartNumber"], part["Size"]) for part in parts] == [(3, 3)]
    assert [one["Key"] for one in client.list_multipart_uploads(Bucket="data")["Uploads"]] == ["a"]
    client.abort_multipart_upload(Bucket="data", Key="a", UploadId=identity)
    assert "Uploads" not in client.list_multipart_uploads(Bucket="data")


def test_many_objects_are_deleted_at_once(client: "S3Client") -> None:
    for key in "abc":
        client.put_object(Bucket="data", Key=key)
    client.delete_objects(Bucket="data", Delete={"Objects": [{"Key": "a"}, {"Key": "c"}]})
    assert [entry["Key"] for entry in client.list_objects_v2(Bucket="data")["Contents"]] == ["b"]


def test_requests_and_bytes_are_counted(client: "S3Client", server: Server) -> None:
    server.reset()
    client.put_object(Bucket="data", Key="a", Body=CONTENT)
    read(client, "a")
    counted = server.counted()
    assert counted.requests == {"PutObject": 1, "GetObject": 1}
    for size in (counted.received, counted.sent):
        assert len(CONTENT) < size < len(CONTENT) + 4096


def test_more_than_the_bound_is_refused_and_what_is_dropped_makes_room(client: "S3Client") -> None:
    for number in range(9):
        client.put_object(Bucket="data", Key=str(number), Body=CONTENT)
    with pytest.raises(ClientError) as error:
        client.put_object(Bucket="data", Key="too much", Body=CONTENT * 2)
    assert refusal(error) == "InsufficientStorage"
    client.delete_object(Bucket="data", Key="0")
    client.delete_object(Bucket="data", Key="1")
    client.put_object(Bucket="data", Key="fits now", Body=CONTENT)


def test_what_is_not_served_is_refused(client: "S3Client") -> None:
    with pytest.raises(ClientError) as error:
        client.get_bucket_policy(Bucket="data")
    assert refusal(error) == "NotImplemented"


def test_what_a_client_broke_off_is_not_stored(client: "S3Client", server: Server) -> None:
    if server.authority is not None:
        pytest.skip("the same on either side of TLS")
    host, _, port = server.endpoint.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"PUT /data/cut HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + b"x" * 999)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    with pytest.raises(ClientError) as error:
        read(client, "cut")
    assert refusal(error) == "NoSuchKey"


def test_a_part_that_is_too_small_makes_no_object(client: "S3Client") -> None:
    where = {"Bucket": "data", "Key": "a"}
    where["UploadId"] = client.create_multipart_upload(Bucket="data", Key="a")["UploadId"]
    etags = [client.upload_part(**where, PartNumber=number, Body=b"12345")["ETag"] for number in (1, 2)]  # type: ignore[arg-type]
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, start=1)]
    with pytest.raises(ClientError) as error:
        client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})  # type: ignore[arg-type, typeddict-item]
    assert refusal(error) == "EntityTooSmall"
