"""The record: the JSON object that is the commit of a snapshot (docs/snapshot-format.md)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from holdfast import checksum, keys, names
from holdfast.errors import DamagedError

FORMAT = 1


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a snapshot.

    Attributes:
        path: relative to the checkpoint directory, with slashes.
        size: bytes.
        mtime_ns: modification time, nanoseconds since the epoch.
        mode: permission bits.
        crc64nvme: checksum of the content.
        key: where the content lies, relative to the prefix. Content at a plain key may have moved to its preserved key.
        etag: the store's name for that content.
        sha256: of the content, 64 hex digits, where it was asked for.
        parts: of a large file, the checksums of its parts (`holdfast.grid`): a hint for what is sent later.
    """

    path: str
    size: int
    mtime_ns: int
    mode: int
    crc64nvme: int
    key: str
    etag: str
    sha256: str | None = None
    parts: str | None = None

    @property
    def preserved(self) -> str | None:
        """Where the content is kept once its plain key is overwritten; None when it does not lie at a plain key."""
        if self.key.startswith(f"{names.OWN_DIRECTORY}/"):
            return None
        return keys.preserved_key(self.key, self.size, self.crc64nvme)


@dataclass(frozen=True, slots=True)
class Fence:
    """What stands where the next record of an ended attempt would go: nothing can be committed behind it.

    Attributes:
        attempt: the attempt that has taken over.
        host: on which host.
    """

    attempt: int
    host: str

    def to_json(self) -> bytes:
        """Return the fence as it is stored."""
        body = {"format": FORMAT, "fence": {"attempt": self.attempt, "host": self.host}}
        return json.dumps({**body, "checksum": _seal(body)}, indent=1).encode()


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
        hosts: the names of all hosts that commit under the prefix side by side; none where there is one.
        since: when this host first committed these files, where that was before `created`: it has said again that they
            are all it has.
        ended: whether the host's script had ended, so that nothing follows in this attempt.
        token: of the claim of the attempt.
        complete: whether these were all files that the host had, and none was held back, when the record was made.
    """

    attempt: int
    sequence: int
    created: datetime
    host: str
    version: str
    files: Mapping[str, FileEntry]
    adopted: Mapping[str, str] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    since: datetime | None = None
    ended: bool = False
    token: str = ""
    complete: bool = True

    @property
    def name(self) -> str:
        """The name in the order of the commits, such as `000002-000007`."""
        return keys.snapshot_name(self.attempt, self.sequence, self.host if self.hosts else "")

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
            "created": _to_text(self.created),
            "since": _to_text(self.since) if self.since else None,
            "host": self.host,
            "hosts": list(self.hosts),
            "ended": self.ended,
            "token": self.token,
            "complete": self.complete,
            "holdfast": self.version,
            "files": [_to_value(entry) for _, entry in sorted(self.files.items())],
            "adopted": dict(sorted(self.adopted.items())),
        }
        return json.dumps({**body, "checksum": _seal(body)}, indent=1).encode()


def from_json(text: bytes, *, name: str) -> Snapshot | Fence:
    """Parse and check what lies at a record's key.

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
        if "fence" in body:
            return Fence(_whole(body["fence"]["attempt"]), str(body["fence"]["host"]))
        snapshot = _snapshot(body)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise DamagedError(f"snapshot {name}: the record does not parse: {type(error).__name__}: {error}") from error
    if snapshot.name != name:
        raise DamagedError(f"snapshot {name}: the record says that it is {snapshot.name}")
    _refuse_unsafe(name, snapshot.files)
    return snapshot


def _snapshot(body: dict[str, Any]) -> Snapshot:
    return Snapshot(
        attempt=_whole(body["attempt"]),
        sequence=_whole(body["sequence"]),
        created=_from_text(body["created"]),
        host=str(body["host"]),
        version=str(body["holdfast"]),
        files={entry.path: entry for entry in map(_entry, body["files"])},
        adopted={str(key): str(etag) for key, etag in body["adopted"].items()},
        hosts=tuple(map(str, body["hosts"])),
        since=_from_text(body["since"]) if body["since"] is not None else None,
        ended=bool(body["ended"]),
        token=str(body["token"]),
        complete=bool(body["complete"]),
    )


def _to_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _from_text(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} names no time zone")
    return moment


def _to_value(entry: FileEntry) -> dict[str, Any]:
    value: dict[str, Any] = {
        "path": entry.path,
        "size": entry.size,
        "mtime_ns": entry.mtime_ns,
        "mode": entry.mode,
        "crc64nvme": checksum.to_hex(entry.crc64nvme),
        "key": entry.key,
        "etag": entry.etag,
    }
    more = {"sha256": entry.sha256, "parts": entry.parts}
    return {**value, **{name: text for name, text in more.items() if text is not None}}


def _entry(value: dict[str, Any]) -> FileEntry:
    return FileEntry(
        path=str(value["path"]),
        size=_whole(value["size"]),
        mtime_ns=_whole(value["mtime_ns"]),
        mode=_whole(value["mode"]) & 0o777,
        crc64nvme=checksum.from_hex(value["crc64nvme"]),
        key=str(value["key"]),
        etag=str(value["etag"]),
        sha256=str(value["sha256"]) if "sha256" in value else None,
        parts=str(value["parts"]) if "parts" in value else None,
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
