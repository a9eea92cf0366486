"""URIs of locations, valid and invalid."""

import pytest

from holdfast.errors import ConfigError
from holdfast.store.location import Location, parse


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("s3://bucket/a/b", Location("s3", "bucket", "a/b")),
        ("s3://bucket/a/b/", Location("s3", "bucket", "a/b")),
        ("s3://bucket", Location("s3", "bucket", "")),
        ("s3://my.old_Bucket/x", Location("s3", "my.old_Bucket", "x")),
        (" s3://bucket/a ", Location("s3", "bucket", "a")),
        ("file:///mnt/efs/job", Location("file", "", "/mnt/efs/job")),
        ("file:///mnt/with%20space/", Location("file", "", "/mnt/with space")),
    ],
)
def test_a_valid_uri_is_parsed(uri: str, place: Location) -> None:
    assert parse(uri, name="X") == place


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "bucket/prefix",
        "/mnt/efs",
        "s3:/bucket/prefix",
        "s3:///prefix",
        "s3://a/b",
        "s3://[bad/x",
        "S3 bucket",
        "https://bucket/prefix",
        "s3://bucket/a//b",
        "s3://bucket//a",
        "s3://bucket/../b",
        "s3://bucket/a?versionId=1",
        "s3://bucket/a#b",
        "s3://bucket/a/.holdfast",
        "s3://bucket/.holdfast/commits",
        "file://relative/dir",
        "file:///",
    ],
)
def test_an_invalid_uri_is_refused_with_the_name_of_the_variable(uri: str) -> None:
    with pytest.raises(ConfigError, match="CHECKPOINT_S3_URI"):
        parse(uri, name="CHECKPOINT_S3_URI")


def test_credentials_in_a_uri_are_refused_and_not_repeated() -> None:
    for secret in ("verysecret", "very/secret"):
        with pytest.raises(ConfigError, match="credentials") as caught:
            parse(f"s3://AKIAEXAMPLE:{secret}@bucket/prefix", name="X")
        assert "secret" not in str(caught.value)


def test_a_location_prints_as_its_uri() -> None:
    assert str(parse("s3://bucket/a/", name="X")) == "s3://bucket/a"
    assert str(parse("s3://bucket", name="X")) == "s3://bucket"
    assert str(parse("file:///mnt/x", name="X")) == "file:///mnt/x"
