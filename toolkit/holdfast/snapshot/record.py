"""A snapshot's files, the record that commits it, and the fence that ends an attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from holdfast import names
from holdfast.snapshot import keys
from holdfast.store import Content


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of a snapshot.

    Attributes:
        path: relative to the checkpoint directory, with slashes.
        mtime_ns: modification time, nanoseconds since the epoch.
        mode: permission bits.
        key: of the content, relative to the prefix. Content at a plain key may have moved to its preserved key.
        etag: the store's name for that content.
        parts: of a large file, the checksums of its parts (`transfer.part_checksums`): a hint.
    """

    path: str
    size: int
    mtime_ns: int
    mode: int
    crc64nvme: int
    key: str
    etag: str
    parts: str | None = None

    @property
    def content(self) -> Content:
        """What the object at `key` must hold."""
        return Content(self.key, self.etag, self.size, self.crc64nvme)

    @property
    def preserved(self) -> str | None:
        """The key of the content once its plain key is overwritten; None when it is at no plain key."""
        if self.key.startswith(f"{names.OWN_DIRECTORY}/"):
            return None
        return keys.preserved_key(self.key, self.size, self.crc64nvme)


@dataclass(frozen=True, slots=True, weakref_slot=True, kw_only=True)
class FileList:
    """A part of a snapshot's files, in an object of its own, with that object's key, ETag, size and checksum.

    Attributes:
        count: number of files.
        entries: the files, in the order of their paths; empty until the object has been read.
    """

    key: str
    etag: str
    size: int
    crc64nvme: int
    count: int
    entries: tuple[FileEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Fence:
    """The object at the key of an ended attempt's next record, after which it can commit nothing.

    `attempt` is the one that has taken over, on `host`; `conditional` is as in Snapshot.
    """

    attempt: int
    host: str
    conditional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A committed, immutable record of the checkpoint directory at a quiet moment.

    Attributes:
        sequence: 1, 2, … within the attempt.
        created: UTC.
        files: by path.
        adopted: foreign objects that this snapshot or an earlier one has adopted, key → ETag. They are not adopted
            again: `files` has what the script has made of them since.
        hosts: the names of all hosts that commit under the prefix; empty for a single host.
        since: UTC, when this host first committed these files; None unless the record repeats an earlier one.
        ended: whether the host's script had ended, so that nothing follows in this attempt.
        token: of the claim of the attempt.
        complete: whether these were all files of the host, with none held back.
        lists: of the files; empty where the record itself lists them.
        conditional: whether the store has shown that it honours conditional writes.
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
    lists: tuple[FileList, ...] = ()
    conditional: bool = False

    @property
    def name(self) -> str:
        """The name by which snapshots are sorted, such as `000002-000007`."""
        return keys.snapshot_name(self.attempt, self.sequence, self.host if self.hosts else "")

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files.values())
