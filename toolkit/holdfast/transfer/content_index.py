"""Index what the store has: whole contents, and the parts of large ones, by checksum and size."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from holdfast.snapshot.record import FileEntry
from holdfast.store import ObjectRange
from holdfast.transfer import part_checksums

_Content = tuple[int, int]  # bytes, CRC64NVME


@dataclass(frozen=True, slots=True)
class Place:
    """Where a whole content lies in the store: the key and the ETag of the object."""

    key: str
    etag: str


class ContentIndex:
    """Find contents in the store by checksum and size. Thread-safe.

    A part costs about 250 bytes of memory: 4 MiB for every 256 GiB of content.
    """

    def __init__(self, entries: Iterable[FileEntry] = ()) -> None:
        self.copies = True
        """Whether the store copies parts; true until it refuses one."""
        self.sent: set[str] = set()
        """Keys of the content that this attempt has sent and that has not been deleted since."""
        self._contents: dict[_Content, Place] = {}
        self._parts: dict[tuple[int, int], tuple[_Content, int]] = {}  # (CRC64NVME, bytes) → content, offset
        self._cut: set[_Content] = set()  # contents whose grid is known
        self._lock = threading.Lock()
        for entry in entries:
            self.add(entry)

    def add(self, entry: FileEntry) -> None:
        """Record where the content of a file lies. It replaces what was recorded before."""
        content = (entry.size, entry.crc64nvme)
        with self._lock:
            self._contents[content] = Place(entry.key, entry.etag)
            if entry.parts is None:
                return
            with contextlib.suppress(ValueError):  # written by another version: the file is then sent as a whole
                for crc, offset, length in part_checksums.from_text(entry.parts, size=entry.size).parts(entry.size):
                    self._parts[crc, length] = (content, offset)
                self._cut.add(content)

    def place(self, size: int, crc64nvme: int) -> Place | None:
        """Return where a whole content lies; None when it is not in the index."""
        return self._contents.get((size, crc64nvme))

    def part(self, size: int, crc64nvme: int) -> ObjectRange | None:
        """Return a part of a large content with this size and checksum; None when there is none."""
        content, offset = self._parts.get((crc64nvme, size), (None, 0))
        whole = self._contents.get(content) if content else None
        if whole is None:
            return None
        return ObjectRange(key=whole.key, etag=whole.etag, offset=offset, size=size, crc64nvme=crc64nvme)

    def may_have(self, size: int) -> bool:
        """Return whether a content of this size is known only by the checksum of the whole, not by its parts."""
        with self._lock:
            return any(content[0] == size and content not in self._cut for content in self._contents)

    def gone(self, keys: Collection[str]) -> None:
        """Remove objects that were deleted or replaced: their content is sent again when a file has it."""
        with self._lock:
            self.sent.difference_update(keys)
            gone = {content for content, place in self._contents.items() if place.key in keys}
            if not gone:
                return
            self._contents = {content: place for content, place in self._contents.items() if content not in gone}
            self._parts = {part: found for part, found in self._parts.items() if found[0] not in gone}
            self._cut -= gone
