"""Write, read and check records as JSON (docs/snapshot-format.md)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
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
    body = _fence_to_value(record) if isinstance(record, Fence) else _snapshot_to_value(record)
    return json.dumps({**body, "checksum": _seal(body)}).encode()


def _fence_to_value(fence: Fence) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "fence": {"attempt": fence.attempt, "host": fence.host, "conditional": fence.conditional},
    }


def _snapshot_to_value(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "attempt": snapshot.attempt,
        "sequence": snapshot.sequence,
        "created": _to_text(snapshot.created),
        "since": _to_text(snapshot.since) if snapshot.since else None,
        "host": snapshot.host,
        "hosts": list(snapshot.hosts),
        "ended": snapshot.ended,
        "token": snapshot.token,
        "complete": snapshot.complete,
        "conditional": snapshot.conditional,
        "holdfast": snapshot.version,
        "files": [] if snapshot.lists else [to_value(entry) for _, entry in sorted(snapshot.files.items())],
        "lists": [_list_to_value(file_list) for file_list in snapshot.lists],
        "adopted": dict(sorted(snapshot.adopted.items())),
    }


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
            fence = body["fence"]
            return Fence(_whole(fence["attempt"]), str(fence["host"]), fence["conditional"] is True)
        snapshot = _snapshot(body)
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


def _snapshot(body: dict[str, Any]) -> Snapshot:
    return Snapshot(
        attempt=_whole(body["attempt"]),
        sequence=_whole(body["sequence"]),
        created=_from_text(body["created"]),
        host=str(body["host"]),
        version=str(body["holdfast"]),
        files={entry.path: entry for entry in map(to_entry, body["files"])},
        adopted={str(key): str(etag) for key, etag in body["adopted"].items()},
        hosts=tuple(map(str, body["hosts"])),
        since=_from_text(body["since"]) if body["since"] is not None else None,
        ended=bool(body["ended"]),
        token=str(body["token"]),
        complete=bool(body["complete"]),
        lists=tuple(map(_to_list, body["lists"])),
        conditional=body["conditional"] is True,
    )


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
    """Return the file of a JSON value.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: the value is not that of a file.
    """
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


def _list_to_value(file_list: FileList) -> dict[str, Any]:
    return {
        "key": file_list.key,
        "etag": file_list.etag,
        "size": file_list.size,
        "crc64nvme": checksum.to_hex(file_list.crc64nvme),
        "files": file_list.count,
    }


def _to_list(value: dict[str, Any]) -> FileList:
    return FileList(
        key=str(value["key"]),
        etag=str(value["etag"]),
        size=_whole(value["size"]),
        crc64nvme=checksum.from_hex(value["crc64nvme"]),
        count=_whole(value["files"]),
    )


def _whole(value: object) -> int:
    # Sizes, times and modes: none is negative here (`scan` clamps times before 1970), none needs more than 63 bits.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError(f"{value!r} is no whole number from 0 to 2^63")
    return value


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
