"""Write, read and check records as JSON (docs/snapshot-format.md)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from holdfast import checksum, names
from holdfast.errors import DamagedError
from holdfast.snapshot import keys
from holdfast.snapshot.record import Fence, FileEntry, FileList, Snapshot

FORMAT = 1
MOST_FILES = 10_000_000
"""Limit of files in one snapshot: a record with more is not read."""
MOST_LIST_BYTES = 64 << 20
"""Limit of bytes in a list, as stored and unpacked."""


def to_json(record: Snapshot | Fence) -> bytes:
    """Return the stored form of a record or a fence."""
    body: dict[str, Any] = {"format": FORMAT}
    if isinstance(record, Fence):
        body["fence"] = _write(record, _FENCE)
    else:
        body |= _write(record, _SNAPSHOT)
        body["files"] = [] if record.lists else [to_value(entry) for _, entry in sorted(record.files.items())]
        body["lists"] = [_write(file_list, _LIST) for file_list in record.lists]
        body["adopted"] = dict(sorted(record.adopted.items()))
    return json.dumps({**body, "checksum": _seal(body)}).encode()


def from_json(text: bytes, *, name: str) -> Snapshot | Fence:
    """Parse and check a record or a fence. A snapshot with lists has no files until `with_lists`.

    Raises:
        DamagedError: it does not parse, its checksum is wrong, it has another name, or a path in it is not safe.
    """
    try:
        body = json.loads(text)
        if body["format"] != FORMAT:
            raise DamagedError(
                f"snapshot {name} has format {body['format']!r}; this holdfast reads {FORMAT}: upgrade holdfast"
            )
        if body.pop("checksum") != _seal(body):
            raise DamagedError(f"snapshot {name}: the record's checksum is wrong")
        if "fence" in body:
            return Fence(**_read(body["fence"], _FENCE))
        snapshot = Snapshot(
            **_read(body, _SNAPSHOT),
            files={entry.path: entry for entry in map(to_entry, body["files"])},
            lists=tuple(FileList(**_read(value, _LIST)) for value in body["lists"]),
            adopted={str(key): str(etag) for key, etag in body["adopted"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise DamagedError(f"snapshot {name}: the record does not parse: {type(error).__name__}: {error}") from error
    if snapshot.name != name:
        raise DamagedError(f"snapshot {name}: the record says that it is {snapshot.name}")
    _refuse_unsafe(name, snapshot.files)
    if snapshot.lists:
        _refuse_lists(snapshot)
    return snapshot


def with_lists(snapshot: Snapshot, lists: Sequence[FileList]) -> Snapshot:
    """Return a snapshot with the files of its lists, which have been read.

    Raises:
        DamagedError: files are out of order or missing, or a path is not safe.
    """
    last = ""
    for file_list in lists:
        if len(file_list.entries) != file_list.count:
            raise DamagedError(
                f"snapshot {snapshot.name}: list {file_list.key} has {len(file_list.entries):,} files and not "
                f"{file_list.count:,}"
            )
        for entry in file_list.entries:
            if entry.path <= last:
                raise DamagedError(f"snapshot {snapshot.name}: list {file_list.key} is out of order at {entry.path!r}")
            last = entry.path
    files = {entry.path: entry for file_list in lists for entry in file_list.entries}
    _refuse_unsafe(snapshot.name, files)
    return replace(snapshot, files=files, lists=tuple(lists))


def _refuse_lists(snapshot: Snapshot) -> None:
    reason = None
    if snapshot.files:
        reason = "the record has files and lists"
    elif not all(keys.is_list(file_list.key) for file_list in snapshot.lists):
        reason = "the record names as a list what is none"
    elif any(file_list.size > MOST_LIST_BYTES or not file_list.count for file_list in snapshot.lists):
        reason = f"a list is empty, or larger than {MOST_LIST_BYTES:,} bytes"
    elif sum(file_list.count for file_list in snapshot.lists) > MOST_FILES:
        reason = f"it has more than {MOST_FILES:,} files"
    if reason is not None:
        raise DamagedError(f"snapshot {snapshot.name}: {reason}")


def _to_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _from_text(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} names no time zone")
    return moment


def to_value(entry: FileEntry) -> dict[str, Any]:
    """Return the JSON value of a file."""
    value: dict[str, Any] = {
        "path": entry.path,
        "size": entry.size,
        "mtime_ns": entry.mtime_ns,
        "mode": entry.mode,
        "crc64nvme": checksum.to_hex(entry.crc64nvme),
        "key": entry.key,
        "etag": entry.etag,
    }
    return value if entry.parts is None else {**value, "parts": entry.parts}


def to_entry(value: dict[str, Any]) -> FileEntry:
    """Return the file of a JSON value; raise any of Python's errors where it is none."""
    path, key = str(value["path"]), str(value["key"])
    return FileEntry(
        path=path,
        size=_whole(value["size"]),
        mtime_ns=_whole(value["mtime_ns"]),
        mode=_whole(value["mode"]) & 0o777,
        crc64nvme=checksum.from_hex(value["crc64nvme"]),
        key=path if key == path else key,  # once in memory: there may be a million
        etag=str(value["etag"]),
        parts=str(value["parts"]) if "parts" in value else None,
    )


def _whole(value: object) -> int:
    # Sizes, times and modes: none is negative here (`scan` clamps times before 1970), none needs more than 63 bits.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError(f"{value!r} is no whole number from 0 to 2^63")
    return value


# Name in JSON, attribute, and how its value is written and read.
_Field = tuple[str, str, Callable[[Any], object], Callable[[Any], object]]
_FENCE: tuple[_Field, ...] = (
    ("attempt", "attempt", int, _whole),
    ("host", "host", str, str),
    ("conditional", "conditional", bool, lambda value: value is True),
)
_SNAPSHOT: tuple[_Field, ...] = (
    *_FENCE,
    ("sequence", "sequence", int, _whole),
    ("created", "created", _to_text, _from_text),
    ("since", "since", lambda when: when and _to_text(when), lambda when: None if when is None else _from_text(when)),
    ("hosts", "hosts", list, lambda hosts: tuple(map(str, hosts))),
    ("ended", "ended", bool, bool),
    ("token", "token", str, str),
    ("complete", "complete", bool, bool),
    ("holdfast", "version", str, str),
)
_LIST: tuple[_Field, ...] = (
    ("key", "key", str, str),
    ("etag", "etag", str, str),
    ("size", "size", int, _whole),
    ("crc64nvme", "crc64nvme", checksum.to_hex, checksum.from_hex),
    ("files", "count", int, _whole),
)


def _write(record: Snapshot | Fence | FileList, fields: tuple[_Field, ...]) -> dict[str, Any]:
    return {name: write(getattr(record, attribute)) for name, attribute, write, _ in fields}


def _read(value: dict[str, Any], fields: tuple[_Field, ...]) -> dict[str, Any]:
    return {attribute: read(value[name]) for name, attribute, _, read in fields}


def _refuse_unsafe(name: str, paths: Iterable[str]) -> None:
    every = set(paths)
    directories = {path.rpartition("/")[0] for path in every}
    blocked = {path for path in directories if any(str(part) in every for part in (path, *PurePosixPath(path).parents))}
    for path in every:
        reason = names.unsafe_reason(path)
        if reason is None and names.is_bookkeeping(PurePosixPath(path)):
            reason = "the name is reserved"
        if reason is None and path.rpartition("/")[0] in blocked:
            reason = "a file of the same snapshot stands where its directory should be"
        if reason is not None:
            raise DamagedError(f"snapshot {name}: {path!r} must not be restored: {reason}")


def _seal(body: dict[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return checksum.to_hex(checksum.crc64nvme(text))
