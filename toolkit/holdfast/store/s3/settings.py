"""Read from the environment how to reach an S3 bucket."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from holdfast.errors import ConfigError

ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "S3_ENDPOINT_URL", "AWS_ENDPOINT_URL")
TIMEOUT_VARIABLE = "HOLDFAST_S3_TIMEOUT_SECONDS"

# The domains of the AWS partitions, by the beginning of their regions' names; all others are amazonaws.com.
_DOMAINS = (
    ("cn-", "amazonaws.com.cn"),
    ("eusc-", "amazonaws.eu"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
)


@dataclass(frozen=True, slots=True)
class StaticKeys:
    """Credentials from the environment. They are left out of `repr`, and so out of logs and tracebacks."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    token: str | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """How to reach S3.

    Attributes:
        endpoint: URL of an S3-compatible server, addressed in path style; None for AWS.
        region: None for that of the AWS configuration files, else us-east-1.
        keys: credentials from the environment; None for those of the AWS credentials chain.
        ca_bundle: file with the trusted certificates; None for the system's.
        proxies: URL of the proxy, by the scheme of the endpoint.
        no_proxy: hosts that are reached without a proxy, in the form of NO_PROXY.
        connect_seconds: connect timeout (default 5).
        read_seconds: read timeout, also for sending one block of a body (default 60); HOLDFAST_S3_TIMEOUT_SECONDS.
    """

    endpoint: str | None = None
    region: str | None = None
    keys: StaticKeys | None = None
    ca_bundle: str | None = None
    proxies: Mapping[str, str] = field(default_factory=dict)
    no_proxy: str = ""
    connect_seconds: float = 5.0
    read_seconds: float = 60.0

    def proxy_for(self, url: str) -> str | None:
        """Return the proxy for a URL, None for none."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        for entry in self.no_proxy.split(","):
            name = entry.strip().lower().removeprefix("*").removeprefix(".")
            if entry.strip() == "*" or (name and (host == name or host.endswith(f".{name}") or parts.netloc == name)):
                return None
        return self.proxies.get(parts.scheme)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the requests for a bucket go.

    Attributes:
        origin: scheme, host and port.
        path: in front of the slash and the key; empty when the bucket is in the host's name.
        forwarded: whether a proxy reads the requests (no TLS, so no tunnel), and wants their whole URL.
    """

    origin: str
    path: str
    forwarded: bool = False

    @property
    def host(self) -> str:
        """The Host header: with its port, unless that is the default one."""
        scheme, _, host = self.origin.partition("://")
        return host.removesuffix(":443" if scheme == "https" else ":80")


def from_environ(environ: Mapping[str, str]) -> S3Settings:
    """Read the settings from the environment. An empty variable counts as not set.

    Blanks and line ends around a value are removed: secrets from a file often end with one.

    Raises:
        ConfigError: the endpoint is not a URL, or the read timeout is not a number.
    """

    def first(*names: str) -> str | None:
        return next((value for name in names if (value := environ.get(name, "").strip())), None)

    access, secret = first("AWS_ACCESS_KEY_ID"), first("AWS_SECRET_ACCESS_KEY")
    keys = StaticKeys(access, secret, first("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")) if access and secret else None
    # HTTP_PROXY in capitals is ignored, as by other tools: a web server would set it from a header named Proxy.
    proxies = {"http": first("http_proxy", "all_proxy"), "https": first("https_proxy", "HTTPS_PROXY", "all_proxy")}
    endpoint_name = next((name for name in ENDPOINT_VARIABLES if environ.get(name)), None)
    return S3Settings(
        endpoint=_endpoint(environ[endpoint_name], endpoint_name) if endpoint_name else None,
        region=first("AWS_REGION", "AWS_DEFAULT_REGION"),
        keys=keys,
        ca_bundle=first("AWS_CA_BUNDLE", "SSL_CERT_FILE"),
        proxies={scheme: url if "//" in url else f"http://{url}" for scheme, url in proxies.items() if url},
        no_proxy=first("no_proxy", "NO_PROXY") or "",
        read_seconds=_seconds(first(TIMEOUT_VARIABLE) or "60"),
    )


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigError(f"{TIMEOUT_VARIABLE} must be a number of seconds above 0; it is {value!r}")
    return seconds


def _endpoint(url: str, name: str) -> str:
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        # The value is not repeated: it may hold a password.
        raise ConfigError(f"{name} must be http://HOST:PORT or https://HOST:PORT, without a user name, '?' and '#'")
    return url.strip().rstrip("/")


def address(settings: S3Settings, bucket: str, region: str) -> Address:
    """Return where requests for a bucket go.

    On AWS the bucket is part of the host's name, unless it has a dot (the certificate does not cover it) or capitals or
    underscores (a host's name may not).
    """
    if settings.endpoint:
        parts = urlsplit(settings.endpoint)
        forwarded = parts.scheme == "http" and settings.proxy_for(settings.endpoint) is not None
        return Address(f"{parts.scheme}://{parts.netloc}", f"{parts.path}/{bucket}", forwarded)
    domain = next((domain for start, domain in _DOMAINS if region.startswith(start)), "amazonaws.com")
    host = f"s3.{region}.{domain}"
    if "." in bucket or "_" in bucket or bucket != bucket.lower():
        return Address(f"https://{host}", f"/{bucket}")
    return Address(f"https://{bucket}.{host}", "")
