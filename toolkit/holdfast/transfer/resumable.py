"""Resume large uploads that were cut off: a journal beside the files says which of their parts the store has.

A noted part is a hint: it counts only while the file has the bytes that its checksum says, and the store checks it when
the upload is completed.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from holdfast import checksum, names
from holdfast.local import scan
from holdfast.local.journal import Journal, JournalError
from holdfast.snapshot import keys
from holdfast.snapshot.record import FileEntry
from holdfast.store import Store, StoredPart, Upload


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadNote:
    """One upload that has begun, of a file of `size` bytes at `path` in the checkpoint directory.

    Attributes:
        journal: where it is noted.
        upload: its key, id and metadata.
        parts: those that the store has confirmed, by number.
    """

    journal: Journal
    upload: Upload
    path: str
    size: int
    parts: dict[int, StoredPart]

    def add(self, part: StoredPart) -> None:
        """Note a confirmed part; where that fails, the part is sent again. Safe from several threads."""
        with contextlib.suppress(OSError):
            self.journal.append(astuple(part))

    def drop(self, store: Store) -> None:
        """Abort the upload, and remove the note when that is done."""
        store.abort_upload(self.upload)
        self.journal.remove()


class ResumableUploads:
    """The uploads that are noted in one checkpoint directory.

    Args:
        directory: the checkpoint directory.
        slot: the name under which this host commits; hosts that share a directory leave each other's uploads alone.
    """

    def __init__(self, directory: Path, slot: str) -> None:
        self._directory = directory
        self._slot = slot

    def begin(self, upload: Upload, path: str, size: int) -> UploadNote | None:
        """Note that an upload of a file has begun; None where that cannot be written."""
        name = checksum.to_hex(checksum.crc64nvme(f"{upload.key}\n{upload.id}".encode("utf-8", "surrogateescape")))
        journal = Journal(self._directory / names.OWN_DIRECTORY / f"upload-{name}.jsonl")
        header = {"upload": [upload.key, upload.id, dict(upload.metadata)], "path": path, "size": size}
        try:
            journal.begin(header)
        except OSError:
            return None
        return _note(journal, header, [])

    def ids(self) -> frozenset[str]:
        """Return the ids of all noted uploads, those of other hosts too."""
        return frozenset(note.upload.id for note in self._all())

    def resumable(self, store: Store, path: str, size: int, is_free: Callable[[str], bool]) -> UploadNote | None:
        """Return the upload of a file that can go on, and drop those of it that cannot.

        Where there is a note, the store lists its unfinished uploads, once. It is not asked for their parts.

        Args:
            store: where the uploads are.
            path: of the file.
            size: its bytes.
            is_free: says of the plain key whether it has no object.

        Raises:
            StoreError: the store does not list its uploads, or does not drop one.
        """
        found = [note for note in self._own() if (note.path, note.size) == (path, size)]
        stored = {(it.upload.key, it.upload.id) for it in store.unfinished_uploads()} if found else set()
        for note in sorted(found, key=lambda note: -len(note.parts)):
            if (note.upload.key, note.upload.id) in stored and (note.upload.key != path or is_free(path)):
                return note
            note.drop(store)
        return None

    def drop_stale(self, store: Store, entries: Mapping[str, FileEntry]) -> None:
        """Drop the uploads whose file is gone, has another size, or is among the `entries` of the newest snapshot.

        Raises:
            StoreError: the store does not drop one; the next call tries again.
        """
        for note in self._own():
            state, entry = scan.look(self._directory, note.path), entries.get(note.path)
            committed = entry is not None and state is not None and state.mtime_ns == entry.mtime_ns
            if state is None or state.size != note.size or committed:
                note.drop(store)

    def _own(self) -> list[UploadNote]:
        owners = ((note, note.upload.metadata.get(keys.OWNER, "")) for note in self._all())
        return [note for note, owner in owners if owner.partition("@")[2] == self._slot]

    def _all(self) -> Iterator[UploadNote]:
        """Yield every note. A journal that cannot be read is removed."""
        for journal in map(Journal, sorted((self._directory / names.OWN_DIRECTORY).glob("upload-*.jsonl"))):
            try:
                if note := journal.read(partial(_note, journal)):
                    yield note
            except JournalError:
                journal.remove()


def _note(journal: Journal, header: dict[str, Any], lines: list[Any]) -> UploadNote:
    upload, parts = Upload(*header["upload"]), {part.number: part for part in itertools.starmap(StoredPart, lines)}
    return UploadNote(journal=journal, upload=upload, path=header["path"], size=header["size"], parts=parts)
