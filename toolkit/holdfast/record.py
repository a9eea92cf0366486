"""The record: the JSON object that is the commit of a snapshot (docs/snapshot-format.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from holdfast import checksum, names
from holdfast.errors import DamagedError

FORMAT = 1
ATTEMPTS = f"{names.OWN_DIRECTORY}/attempts/"
SNAPSHOTS = f"{names.OWN_DIRECTORY}/snapshots/"
OBJECTS = f"{names.OWN_DIRECTORY}/objects/"
OWNER = "holdfast-attempt"
"""The user metadata that every object of ours at a plain key carries."""

_NAME = re.compile("([0-9]{6})-([0-9]{6})")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a snapshot.

    Attributes:
        path: relative to the checkpoint directory, with slashes.
        size: bytes.
        mtime_ns: modification time, nanoseconds since the epoch.
        mode: permission bits.
        crc64nvme: checksum of the content.
        key: where the content lies, relative to the prefix.
        etag: the store's name for that content.
    """

    path: str
    size: int
    mtime_ns: int
    mode: int
    crc64nvme: int
    key: str
    etag: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A committed, immutable record of the checkpoint directory at a quiet moment.

    Attributes:
        attempt: which attempt committed it.
        sequence: 1, 2, … within the attempt.
        created: UTC.
        host: who committed it.
        version: of holdfast.
        files: by path.
        adopted: foreign objects that were taken in by this snapshot or one before it, key → ETag: what the script has
            made of them since is in `files`, so they are not taken in again.
    """

    attempt: int
    sequence: int
    created: datetime
    host: str
    version: str
    files: Mapping[str, FileEntry]
    adopted: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name in the order of the commits, such as `000002-000007`."""
        return snapshot_name(self.attempt, self.sequence)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files.values())

    def to_json(self) -> bytes:
        """Return the record as it is stored."""
        body: dict[str, Any] = {
            "format": FORMAT,
            "attempt": self.attempt,
            "sequence": self.sequence,
            "created": self.created.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "host": self.host,
            "holdfast": self.version,
            "files": [
                {
                    "path": entry.path,
                    "size": entry.size,
                    "mtime_ns": entry.mtime_ns,
                    "mode": entry.mode,
                    "crc64nvme": checksum.to_hex(entry.crc64nvme),
                    "key": entry.key,
                    "etag": entry.etag,
                }
                for _, entry in sorted(self.files.items())
            ],
            "adopted": dict(sorted(self.adopted.items())),
        }
        return json.dumps({**body, "checksum": _seal(body)}, indent=1).encode()


def snapshot_name(attempt: int, sequence: int) -> str:
    """Return `000002-000007` for attempt 2, sequence 7."""
    return f"{attempt:06d}-{sequence:06d}"


def parse_name(name: str) -> tuple[int, int] | None:
    """Return (attempt, sequence) of a snapshot's name, or None when it is none."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def snapshot_key(name: str) -> str:
    """Return the key of a record."""
    return f"{SNAPSHOTS}{name}.json"


def from_json(text: bytes, *, name: str) -> Snapshot:
    """Parse and check a record.

    Raises:
        DamagedError: it does not parse, its checksum is wrong, it belongs to another name, or a path in it is not
        safe to write.
    """
    try:
        body = json.loads(text)
        if body["format"] != FORMAT:
            raise DamagedError(
                f"snapshot {name} has format {body['format']!r}; this holdfast reads {FORMAT}: upgrade holdfast"
            )
        if body.pop("checksum") != _seal(body):
            raise DamagedError(f"snapshot {name}: the record's checksum is wrong")
        snapshot = Snapshot(
            attempt=_whole(body["attempt"]),
            sequence=_whole(body["sequence"]),
            created=datetime.fromisoformat(body["created"]),
            host=str(body["host"]),
            version=str(body["holdfast"]),
            files={entry.path: entry for entry in map(_entry, body["files"])},
            adopted={str(key): str(etag) for key, etag in body["adopted"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise DamagedError(f"snapshot {name}: the record does not parse: {type(error).__name__}: {error}") from error
    if snapshot.name != name:
        raise DamagedError(f"snapshot {name}: the record says that it is {snapshot.name}")
    _refuse_unsafe(name, snapshot.files)
    return snapshot


def _entry(value: dict[str, Any]) -> FileEntry:
    return FileEntry(
        path=str(value["path"]),
        size=_whole(value["size"]),
        mtime_ns=_whole(value["mtime_ns"]),
        mode=_whole(value["mode"]) & 0o777,
        crc64nvme=checksum.from_hex(value["crc64nvme"]),
        key=str(value["key"]),
        etag=str(value["etag"]),
    )


def _whole(value: object) -> int:
    # Sizes, times and modes: none is negative here (disk.py clamps times before 1970), none needs more than 63 bits.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError(f"{value!r} is no whole number from 0 to 2^63")
    return value


def _refuse_unsafe(name: str, paths: Iterable[str]) -> None:
    every = set(paths)
    for path in every:
        reason = names.unsafe_reason(path)
        if reason is None and names.is_bookkeeping(PurePosixPath(path)):
            reason = "the name is reserved"
        if reason is None and any(str(parent) in every for parent in PurePosixPath(path).parents):
            reason = "a file of the same snapshot stands where its directory should be"
        if reason is not None:
            raise DamagedError(f"snapshot {name}: {path!r} must not be restored: {reason}")


def _seal(body: dict[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return checksum.to_hex(checksum.crc64nvme(text))
