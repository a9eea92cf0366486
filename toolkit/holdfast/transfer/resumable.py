"""Resume interrupted uploads of large files: a journal in the checkpoint directory has the parts that are stored.

A noted part is a hint: it is used only if its checksum is still that of the file, and the store checks it when the
upload is completed.
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
        parts: the stored parts, by number.
    """

    journal: Journal
    upload: Upload
    path: str
    size: int
    parts: dict[int, StoredPart]

    def add(self, part: StoredPart) -> None:
        """Note a stored part. Where that fails, a later attempt sends the part again. Safe from several threads."""
        with contextlib.suppress(OSError):
            self.journal.append(astuple(part))

    def drop(self, store: Store) -> None:
        """Abort the upload, then remove the note."""
        store.abort_upload(self.upload)
        self.journal.remove()


class ResumableUploads:
    """The uploads that are noted in one checkpoint directory.

    Args:
        slot: the name under which this host commits. Uploads of other hosts that share the directory are left alone.
    """

    def __init__(self, directory: Path, slot: str) -> None:
        self._directory = directory
        self._slot = slot

    def begin(self, upload: Upload, path: str, size: int) -> UploadNote | None:
        """Note an upload that has begun; None where that cannot be written."""
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
        """Return an upload of a file that can be resumed, and drop those that cannot.

        Where there is a note, the store lists its unfinished uploads, once. It is not asked for their parts.

        Args:
            size: size of the file, bytes.
            is_free: returns whether there is no object at a plain key.
        """
        found = [note for note in self._own() if (note.path, note.size) == (path, size)]
        listed = store.unfinished_uploads() if found else ()
        stored = {(entry.upload.key, entry.upload.id) for entry in listed}
        for note in sorted(found, key=lambda note: -len(note.parts)):
            if (note.upload.key, note.upload.id) in stored and (note.upload.key != path or is_free(path)):
                return note
            note.drop(store)
        return None

    def drop_stale(self, store: Store, entries: Mapping[str, FileEntry]) -> None:
        """Drop the uploads whose file is gone, has another size, or is among the `entries` of the newest snapshot.

        Raises:
            StoreError: one cannot be dropped; the next call tries again.
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
