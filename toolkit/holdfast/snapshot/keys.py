"""Keys under a prefix (docs/snapshot-format.md, "Keys")."""

from __future__ import annotations

import re

from holdfast import checksum, names

ATTEMPTS = f"{names.OWN_DIRECTORY}/attempts/"
COMMITS = f"{names.OWN_DIRECTORY}/commits/"
LISTS = f"{names.OWN_DIRECTORY}/lists/"
OBJECTS = f"{names.OWN_DIRECTORY}/objects/"
PRESERVED = f"{names.OWN_DIRECTORY}/preserved/"
REPORTED = f"{ATTEMPTS}reported.json"
"""Until when all hosts of the newest attempt of several hosts have reported."""
OWNER = "holdfast-attempt"
"""User metadata of every object that holdfast writes: the attempt, and with several hosts the host."""
CONTENT = "holdfast-content"
"""User metadata of an object that was copied to a plain key: the `content_name` of its content."""

_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SLOT = f"(?:@({_HOST.pattern}))?"
_NAME = re.compile(rf"([0-9]{{6,9}})-([0-9]{{6,9}}){_SLOT}")
_ATTEMPT = re.compile(rf"([0-9]{{6,9}}){_SLOT}\.json")
_LIST = re.compile(rf"{re.escape(LISTS)}{_NAME.pattern}/[0-9]{{1,9}}\.json\.gz")
_CONTENT = re.compile(r"([0-9]{6,9})-[0-9]{6,9}(?:@([^/]+))?/")


def is_host_name(text: str) -> bool:
    """Say whether a host name may be part of a key: at most 64 letters, digits, dots, dashes and underscores."""
    return bool(_HOST.fullmatch(text))


def snapshot_name(attempt: int, sequence: int, host: str = "") -> str:
    """Return `000002-000007` for attempt 2, sequence 7; followed by `@algo-1` with several hosts."""
    return f"{attempt:06d}-{sequence:06d}" + (f"@{host}" if host else "")


def parse_name(name: str) -> tuple[int, int, str] | None:
    """Return (attempt, sequence, host) of a snapshot's name, or None when it is no such name."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2]), match[3] or "") if match else None


def commit_order(name: str) -> tuple[int, int, str]:
    """Return the sort key of a snapshot's name in the order of the commits: attempt, sequence, host."""
    return parse_name(name) or (0, 0, "")


def host_of(name: str) -> str:
    """Return the host in a snapshot's name; empty where it has none."""
    return name.partition("@")[2]


def snapshot_key(name: str) -> str:
    """Return the key of a record."""
    return f"{COMMITS}{name}.json"


def name_in(key: str) -> str:
    """Return the name of the record at a key."""
    return key.removeprefix(COMMITS).removesuffix(".json")


def attempt_key(number: int, host: str = "") -> str:
    """Return the key of an attempt's claim, or of the claim of one of its hosts."""
    return f"{ATTEMPTS}{number:06d}" + (f"@{host}" if host else "") + ".json"


def parse_attempt(key: str) -> tuple[int, str] | None:
    """Return (number, host) for the key of a claim, or None when it is no such key."""
    match = _ATTEMPT.fullmatch(key.removeprefix(ATTEMPTS))
    return (int(match[1]), match[2] or "") if match else None


def content_key(attempt: int, number: int, host: str, path: str) -> str:
    """Return the key for content whose plain key is taken: unique by attempt, pass and host."""
    return f"{OBJECTS}{snapshot_name(attempt, number, host)}/{path}"


def list_key(attempt: int, sequence: int, host: str, number: int) -> str:
    """Return the key of a list of files: unique by attempt, host and number."""
    return f"{LISTS}{snapshot_name(attempt, sequence, host)}/{number}.json.gz"


def is_list(key: str) -> bool:
    """Say whether a key is that of a list."""
    return bool(_LIST.fullmatch(key))


def attempt_of_content(key: str) -> tuple[int, str] | None:
    """Return (attempt, host) that wrote a content key or a list; None for another key."""
    match = _CONTENT.match(key.removeprefix(OBJECTS).removeprefix(LISTS)) if key.startswith((OBJECTS, LISTS)) else None
    return (int(match[1]), match[2] or "") if match else None


def preserved_key(key: str, size: int, crc64nvme: int) -> str:
    """Return the key to which the content of a plain key is copied before it is overwritten.

    It follows from the record alone, so that no record has to be written again.
    """
    return f"{PRESERVED}{content_name(size, crc64nvme)}/{key}"


def content_name(size: int, crc64nvme: int) -> str:
    """Return the identity of a content: CRC64NVME and size."""
    return f"{checksum.to_hex(crc64nvme)}-{size:x}"


def room(host: str = "") -> int:
    """Return the length in bytes of the longest prefix that holdfast puts before a path."""
    return max(len(content_key(1, 1, host, "")), len(preserved_key("", 1 << 50, 0)))
