"""Reading the environment, and finding the address of a bucket."""

import pytest

from holdfast.errors import ConfigError
from holdfast.store.s3.settings import S3Settings, address, from_environ


@pytest.mark.parametrize(
    ("bucket", "region", "origin", "path"),
    [
        ("data", "us-east-1", "https://data.s3.us-east-1.amazonaws.com", ""),
        ("data", "eu-central-1", "https://data.s3.eu-central-1.amazonaws.com", ""),
        ("data", "us-gov-west-1", "https://data.s3.us-gov-west-1.amazonaws.com", ""),
        ("data", "cn-north-1", "https://data.s3.cn-north-1.amazonaws.com.cn", ""),
        ("data.of.mine", "us-east-1", "https://s3.us-east-1.amazonaws.com", "/data.of.mine"),
        ("Old_Bucket", "us-east-1", "https://s3.us-east-1.amazonaws.com", "/Old_Bucket"),
    ],
)
def test_a_bucket_on_aws_has_its_own_host_where_it_can(bucket: str, region: str, origin: str, path: str) -> None:
    found = address(S3Settings(), bucket, region)
    assert (found.origin, found.path) == (origin, path)


def test_another_server_is_addressed_by_path() -> None:
    settings = from_environ({"AWS_ENDPOINT_URL_S3": "http://minio:9000/base/"})
    found = address(settings, "data", "us-east-1")
    assert (found.origin, found.path) == ("http://minio:9000", "/base/data")


def test_the_variable_for_s3_comes_before_the_others_and_empty_ones_do_not_count() -> None:
    environ = {"AWS_ENDPOINT_URL_S3": "", "S3_ENDPOINT_URL": "http://second", "AWS_ENDPOINT_URL": "http://third"}
    assert from_environ(environ).endpoint == "http://second"
    assert from_environ({**environ, "AWS_ENDPOINT_URL_S3": "http://first"}).endpoint == "http://first"
    assert from_environ({}).endpoint is None
    assert from_environ({"AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-west-1"}).region == "eu-west-1"


@pytest.mark.parametrize(
    "url", ["minio:9000", "ftp://host", "http://", "http://user:hidden@host", "http://host?a=b", "http://host#c"]
)
def test_an_endpoint_that_is_not_a_plain_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="S3_ENDPOINT_URL must be http") as caught:
        from_environ({"S3_ENDPOINT_URL": url})
    assert "hidden" not in str(caught.value)


def test_keys_are_taken_in_pairs_and_never_shown() -> None:
    assert from_environ({"AWS_ACCESS_KEY_ID": "A"}).keys is None
    settings = from_environ({"AWS_ACCESS_KEY_ID": "Akey", "AWS_SECRET_ACCESS_KEY": "Bkey", "AWS_SESSION_TOKEN": "Ckey"})
    assert settings.keys is not None
    assert (settings.keys.access_key, settings.keys.secret_key, settings.keys.token) == ("Akey", "Bkey", "Ckey")
    assert not any(secret in repr(settings) for secret in ("Akey", "Bkey", "Ckey"))


@pytest.mark.parametrize(
    ("url", "proxied"),
    [
        ("https://data.s3.us-east-1.amazonaws.com", True),
        ("https://data.internal", False),
        ("https://internal", False),
        ("https://notinternal", True),
        ("http://plain", True),
        ("http://10.0.0.7:9000", False),
        ("http://host:9000", False),
        ("http://host:9001", True),
    ],
)
def test_no_proxy_lists_hosts_domains_and_ports(url: str, proxied: bool) -> None:
    settings = from_environ(
        {"HTTPS_PROXY": "http://proxy:3128", "http_proxy": "proxy:3128", "NO_PROXY": "10.0.0.7, .internal,host:9000"}
    )
    assert (settings.proxy_for(url) == "http://proxy:3128") is proxied


def test_an_asterisk_is_every_host() -> None:
    assert from_environ({"https_proxy": "http://p", "no_proxy": "*"}).proxy_for("https://any") is None


def test_the_read_timeout_can_be_set() -> None:
    assert from_environ({}).read_seconds == 60
    assert from_environ({"HOLDFAST_S3_TIMEOUT_SECONDS": "2.5"}).read_seconds == 2.5


@pytest.mark.parametrize("value", ["soon", "0", "-1", "inf", "nan"])
def test_a_read_timeout_that_is_not_a_number_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="HOLDFAST_S3_TIMEOUT_SECONDS must be a number of seconds above 0"):
        from_environ({"HOLDFAST_S3_TIMEOUT_SECONDS": value})


def test_a_line_end_behind_a_key_is_removed() -> None:
    found = from_environ(
        {"AWS_ACCESS_KEY_ID": "Akey\n", "AWS_SECRET_ACCESS_KEY": "Bkey\n", "AWS_SESSION_TOKEN": " Ckey\r\n"}
    ).keys
    assert found is not None
    assert (found.access_key, found.secret_key, found.token) == ("Akey", "Bkey", "Ckey")
