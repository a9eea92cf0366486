"""Unfinished uploads: what the store has of a large file whose upload was cut off, noted beside the file.

A note lies in `.holdfast/uploads/` of the checkpoint directory, one file for each upload: a line that says which upload
of which file it is, and one line more for each part that the store has confirmed. Lines are only appended, so that a
process may be killed at any time; a line that was cut off is none. What is noted is a hint: a part counts only while
the file has the bytes that its checksum says, and the store holds ETag and checksum of every part against what it has
when the upload is completed.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast import checksum, names
from holdfast.store import StoredPart, Upload


@dataclass(frozen=True, slots=True)
class Note:
    """What is noted of one upload.

    Attributes:
        file: where it is noted.
        upload: what goes on.
        path: of the file that it is of, relative to the checkpoint directory.
        size: bytes of that file.
        step: bytes in each part but the last.
        parts: those that the store has, by number.
    """

    file: Path
    upload: Upload
    path: str
    size: int
    step: int
    parts: dict[int, StoredPart] = field(default_factory=dict)

    def add(self, part: StoredPart) -> None:
        """Note that the store has a part; where that cannot be written, it is forgotten. Safe from several threads."""
        crc = None if part.crc64nvme is None else checksum.to_hex(part.crc64nvme)
        with contextlib.suppress(OSError):
            _append(self.file, [part.number, part.size, crc, part.etag], os.O_APPEND)

    def remove(self) -> None:
        """Forget the upload: it was completed or dropped."""
        with contextlib.suppress(OSError):
            self.file.unlink(missing_ok=True)
            self.file.parent.rmdir()  # where it was the last
            self.file.parent.parent.rmdir()


class Unfinished:
    """The notes of one checkpoint directory.

    Args:
        directory: the checkpoint directory.
    """

    def __init__(self, directory: Path) -> None:
        self._folder = directory / names.OWN_DIRECTORY / "uploads"

    def begin(self, upload: Upload, path: str, *, size: int, step: int) -> Note | None:
        """Note that an upload has begun; None where that cannot be written."""
        name = checksum.to_hex(checksum.crc64nvme(f"{upload.key}\n{upload.id}".encode("utf-8", "surrogateescape")))
        note = Note(self._folder / f"{name}.jsonl", upload, path, size, step)
        header = {"key": upload.key, "id": upload.id, "metadata": dict(upload.metadata)}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _append(note.file, {**header, "path": path, "size": size, "step": step}, os.O_CREAT | os.O_TRUNC)
        except OSError:
            return None
        return note

    def all(self) -> Iterator[Note]:
        """Yield every note. What is no note, or none any more, is removed."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for file in sorted(self._folder.iterdir()):
                try:
                    yield _read(file)
                except (OSError, ValueError, KeyError, TypeError):
                    with contextlib.suppress(OSError):
                        file.unlink()

    def of(self, path: str, size: int) -> Note | None:
        """Return the note of an upload of a file, the one with the most parts; None when there is none."""
        found = [note for note in self.all() if (note.path, note.size) == (path, size)]
        return max(found, key=lambda note: len(note.parts), default=None)

    def ids(self) -> frozenset[str]:
        """Return the ids of the uploads that are noted."""
        return frozenset(note.upload.id for note in self.all())


def _append(file: Path, value: object, flags: int) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC | flags, 0o666)
    try:
        os.write(descriptor, json.dumps(value).encode() + b"\n")  # one call: lines of several threads do not mix
    finally:
        os.close(descriptor)


def _read(file: Path) -> Note:
    lines = file.read_bytes().split(b"\n")[:-1]  # what has no end was cut off
    header: dict[str, Any] = json.loads(lines[0]) if lines else {}
    upload = Upload(str(header["key"]), str(header["id"]), {str(k): str(v) for k, v in header["metadata"].items()})
    note = Note(file, upload, str(header["path"]), int(header["size"]), int(header["step"]))
    for line in lines[1:]:
        number, size, crc, etag = json.loads(line)
        note.parts[number] = StoredPart(number, etag, size, None if crc is None else checksum.from_hex(crc))
    return note
