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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast import checksum, names
from holdfast.local import scan
from holdfast.snapshot import keys
from holdfast.snapshot.record import FileEntry
from holdfast.store import Store, StoredPart, Upload


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


class ResumableUploads:
    """The notes of one checkpoint directory.

    Args:
        directory: the checkpoint directory.
        slot: the name under which this host commits; uploads of others, where hosts share a directory, are theirs.
    """

    def __init__(self, directory: Path, slot: str) -> None:
        self._directory = directory
        self._slot = slot
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

    def ids(self) -> frozenset[str]:
        """Return the ids of the uploads that are noted."""
        return frozenset(note.upload.id for note in self._all())

    def resumable(
        self, store: Store, path: str, *, size: int, step: int, is_free: Callable[[str], bool]
    ) -> Note | None:
        """Return an upload of a file with which can be gone on; one with which cannot is dropped.

        Whether the store still has it, the list of its unfinished uploads says: one request where there is a note, and
        none where there is not. Its parts are not asked for: those that are noted were confirmed, and the store holds
        them against what it has when the upload is completed.

        Args:
            store: where the upload is.
            path: of the file.
            size: its bytes.
            step: bytes in each part but the last.
            is_free: says of the plain key whether nothing lies there.

        Raises:
            StoreError: the store does not say what it has, or one cannot be dropped.
        """
        found = [note for note in self._mine() if (note.path, note.size) == (path, size)]
        if not found:
            return None
        there = {(it.upload.key, it.upload.id) for it in store.unfinished_uploads()}
        for note in sorted(found, key=lambda note: -len(note.parts)):
            taken = note.upload.key == path and not is_free(path)
            if (note.upload.key, note.upload.id) in there and note.step == step and not taken:
                return note
            _drop(store, note)
        return None

    def drop_stale(self, store: Store, entries: Mapping[str, FileEntry]) -> None:
        """Drop the uploads with which nobody will go on: their file is gone, another one, or stored by now.

        Args:
            store: where they are.
            entries: the files of the newest snapshot.

        Raises:
            StoreError: one cannot be dropped; the next call tries it again.
        """
        for note in self._mine():
            state, entry = scan.look(self._directory, note.path), entries.get(note.path)
            stored = entry is not None and state is not None and state.mtime_ns == entry.mtime_ns
            if state is None or state.size != note.size or stored:
                _drop(store, note)

    def _mine(self) -> list[Note]:
        owners = ((note, note.upload.metadata.get(keys.OWNER, "")) for note in self._all())
        return [note for note, owner in owners if owner.partition("@")[2] == self._slot]

    def _all(self) -> Iterator[Note]:
        """Yield every note. What is none, or was cut off at its beginning, is removed."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for file in sorted(self._folder.iterdir()):
                try:
                    yield _read(file)
                except (OSError, ValueError, KeyError, TypeError, AttributeError):
                    with contextlib.suppress(OSError):
                        file.unlink()


def _drop(store: Store, note: Note) -> None:
    store.abort_upload(note.upload)
    note.remove()


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
