"""Where what lies under a prefix (docs/snapshot-format.md, "Keys")."""

from __future__ import annotations

import re

from holdfast import checksum, names

ATTEMPTS = f"{names.OWN_DIRECTORY}/attempts/"
COMMITS = f"{names.OWN_DIRECTORY}/commits/"
LISTS = f"{names.OWN_DIRECTORY}/lists/"
OBJECTS = f"{names.OWN_DIRECTORY}/objects/"
PRESERVED = f"{names.OWN_DIRECTORY}/preserved/"
OWNER = "holdfast-attempt"
"""The user metadata that every object of ours carries: the attempt, and the host where there are many."""
CONTENT = "holdfast-content"
"""The user metadata of an object that was copied to a plain key: what `content_name` makes of its content."""

_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME = re.compile(r"([0-9]{6,9})-([0-9]{6,9})(?:@(.+))?")
_ATTEMPT = re.compile(r"([0-9]{6,9})(?:@(.+))?\.json")
_LIST = re.compile(r"[0-9]{6,9}-[0-9]{6,9}(?:@([^/]+))?/[0-9]{1,9}\.json\.gz")
_CONTENT = re.compile(r"([0-9]{6,9})-[0-9]{6,9}(?:@([^/]+))?/")


def is_host_name(text: str) -> bool:
    """Say whether a host's name may be part of a key: letters, digits, dots, dashes, at most 64."""
    return bool(_HOST.fullmatch(text))


def snapshot_name(attempt: int, sequence: int, host: str = "") -> str:
    """Return `000002-000007` for attempt 2, sequence 7; with `@algo-1` behind it where many hosts commit."""
    return f"{attempt:06d}-{sequence:06d}" + (f"@{host}" if host else "")


def parse_name(name: str) -> tuple[int, int, str] | None:
    """Return (attempt, sequence, host) of a snapshot's name, or None when it is none."""
    match = _NAME.fullmatch(name)
    if match is None or not (match[3] is None or is_host_name(match[3])):
        return None
    return int(match[1]), int(match[2]), match[3] or ""


def commit_order(name: str) -> tuple[int, int, str]:
    """Return what sorts the names of snapshots in the order of their commits: attempt, sequence, host."""
    return parse_name(name) or (0, 0, "")


def host_of(name: str) -> str:
    """Return the host's name in that of a snapshot; empty where it has none."""
    return name.partition("@")[2]


def snapshot_key(name: str) -> str:
    """Return the key of a record."""
    return f"{COMMITS}{name}.json"


def name_in(key: str) -> str:
    """Return the name of the record at a key."""
    return key.removeprefix(COMMITS).removesuffix(".json")


def attempt_key(number: int, host: str = "") -> str:
    """Return the key of the claim of an attempt, or of a host's part in it."""
    return f"{ATTEMPTS}{number:06d}" + (f"@{host}" if host else "") + ".json"


def parse_attempt(key: str) -> tuple[int, str] | None:
    """Return (number, host) for the key of a claim, or None when it is none."""
    match = _ATTEMPT.fullmatch(key.removeprefix(ATTEMPTS))
    if match is None or not (match[2] is None or is_host_name(match[2])):
        return None
    return int(match[1]), match[2] or ""


def content_key(attempt: int, number: int, host: str, path: str) -> str:
    """Return where the content of a file goes when its plain key is taken: unique by attempt, pass and host."""
    return f"{OBJECTS}{snapshot_name(attempt, number, host)}/{path}"


def list_key(attempt: int, sequence: int, host: str, number: int) -> str:
    """Return where a list of files goes: unique by attempt, host and number."""
    return f"{LISTS}{snapshot_name(attempt, sequence, host)}/{number}.json.gz"


def is_list(key: str) -> bool:
    """Say whether a key is that of a list."""
    match = _LIST.fullmatch(key.removeprefix(LISTS)) if key.startswith(LISTS) else None
    return match is not None and (match[1] is None or is_host_name(match[1]))


def attempt_of_content(key: str) -> tuple[int, str] | None:
    """Return (attempt, host) of whoever stored a content key or a list, or None when it is neither."""
    match = _CONTENT.match(key.removeprefix(OBJECTS).removeprefix(LISTS)) if key.startswith((OBJECTS, LISTS)) else None
    return (int(match[1]), match[2] or "") if match else None


def preserved_key(key: str, size: int, crc64nvme: int) -> str:
    """Return where the content of a plain key is kept for the records that name it, once the plain key is overwritten.

    It follows from the record alone, so that no record has to be written again.
    """
    return f"{PRESERVED}{content_name(size, crc64nvme)}/{key}"


def content_name(size: int, crc64nvme: int) -> str:
    """Return what tells one content from another: CRC64NVME and size."""
    return f"{checksum.to_hex(crc64nvme)}-{size:x}"


def room(host: str = "") -> int:
    """Return the bytes that the longest of our prefixes takes of a key."""
    return max(len(content_key(1, 1, host, "")), len(preserved_key("", 1 << 50, 0)))
