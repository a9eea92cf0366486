"""Parse the location of checkpoints: `s3://bucket/prefix` or `file:///dir`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from holdfast.errors import ConfigError

# docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html; dots and capitals of old buckets included.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9.\-_]{1,253}[A-Za-z0-9]")


@dataclass(frozen=True, slots=True)
class Location:
    """A bucket and prefix, or a directory.

    Attributes:
        bucket: the bucket's name; empty for `file`.
        prefix: the key prefix without slashes at either end (may be empty); for `file` the absolute directory.
    """

    scheme: Literal["s3", "file"]
    bucket: str
    prefix: str

    def __str__(self) -> str:
        """Return the URI, without a slash at its end."""
        if self.scheme == "file":
            return f"file://{self.prefix}"
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def is_within(self, other: Location) -> bool:
        """Say whether this location is the other one, or lies below it."""
        if (self.scheme, self.bucket) != (other.scheme, other.bucket):
            return False
        return not other.prefix or f"{self.prefix}/".startswith(f"{other.prefix}/")


def parse(uri: str, *, name: str) -> Location:
    """Parse a URI.

    Args:
        name: the variable or argument that holds it, for the message.

    Raises:
        ConfigError: the URI is malformed; the message says how to write it.
    """
    wanted = f"{name} must be s3://BUCKET/PREFIX or file:///ABSOLUTE/DIRECTORY"
    try:
        parts = urlsplit(uri.strip())
    except ValueError as error:
        raise ConfigError(f"{wanted}; {error}") from error
    # A secret key may hold slashes, so the @ need not be where a URI has it.
    if "@" in parts.netloc or (":" in parts.netloc and "@" in uri):
        # The URI itself is not repeated: what stands before the @ may be a secret.
        raise ConfigError(
            f"{wanted}; it holds credentials before an '@': put them into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if parts.query or parts.fragment:
        raise ConfigError(f"{wanted}, without '?' or '#'; it is {uri!r}")
    if parts.scheme == "file":
        path = unquote(parts.path)
        if parts.netloc not in ("", "localhost") or not path.startswith("/") or path.strip("/") == "":
            raise ConfigError(f"{wanted}; it is {uri!r}")
        return Location("file", "", "/" + path.strip("/"))
    if parts.scheme == "s3":
        if not _BUCKET.fullmatch(parts.netloc):
            raise ConfigError(f"{wanted}; {parts.netloc!r} is no bucket name (it is {uri!r})")
        prefix = parts.path.removeprefix("/").removesuffix("/")
        if any(segment in ("", ".", "..") for segment in prefix.split("/")) and prefix:
            raise ConfigError(f"{wanted}, without empty segments, '.' or '..'; it is {uri!r}")
        if prefix.split("/")[-1] == ".holdfast" or "/.holdfast/" in f"/{prefix}/":
            raise ConfigError(f"{wanted}; .holdfast is where holdfast keeps its own records: name the prefix above it")
        return Location("s3", parts.netloc, prefix)
    raise ConfigError(f"{wanted}; it is {uri!r}")
