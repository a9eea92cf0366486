"""Upload files of the checkpoint directory: each content once, and never over another object."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from holdfast.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    CutFileError,
    FileChangedError,
    NoBucketError,
    PermanentStoreError,
)
from holdfast.local import scan
from holdfast.local.scan import FileState
from holdfast.maintenance.plain_keys import PlainKeys
from holdfast.snapshot import keys
from holdfast.snapshot.attempt import Attempt
from holdfast.snapshot.ownership import Origin
from holdfast.snapshot.record import FileEntry
from holdfast.stop import StoppedError, StopToken
from holdfast.store import Absent, Store
from holdfast.transfer import upload
from holdfast.transfer.content_index import ContentIndex, Place
from holdfast.transfer.multipart_upload import MultipartUpload
from holdfast.transfer.parallel import Transfer
from holdfast.transfer.part_checksums import Grid
from holdfast.transfer.parts import MIB, PartSums, part_size, sum_range, whole_file
from holdfast.transfer.resumable import ResumableUploads

_LOG = logging.getLogger(__name__)

_CONTENT_BUDGET = 16 << 20
"""Bytes of content that a probe may read beside headers; most cuts show without any."""


@dataclass(slots=True, kw_only=True, eq=False)
class FileUploader:
    """Upload files of one checkpoint directory. Several files may be uploaded at a time, each by one thread."""

    store: Store
    directory: Path
    attempt: Attempt
    plain: PlainKeys
    known: ContentIndex
    uploads: ResumableUploads
    progress: Callable[[int], None]
    number: int = 0  # of the pass, part of content keys
    _warned: set[str] = field(default_factory=set)
    _warned_of_copies: bool = False
    _locks: dict[tuple[int, int], threading.Lock] = field(default_factory=dict)

    def store_file(
        self,
        state: FileState,
        parts: Executor | None,
        *,
        stop: StopToken,
        on_last: Callable[[], object] = lambda: None,
    ) -> FileEntry:
        """Store a file, unless the store has its content already, and return its entry.

        Args:
            parts: threads that send the parts of a large file; None: the caller's thread.
            stop: ends the upload between two parts; when winding down, the upload does not begin.
            on_last: called when the last part of a large file has been handed to `parts`.

        Raises:
            FileChangedError: the file differs from `state`.
            CutFileError: the file's format proves that it is incomplete.
            StoppedError: stopped by `stop`.
        """
        if stop.winding_down():
            raise StoppedError(f"{state.path}: no time was left to send it")
        if state.size < upload.SINGLE_PUT:
            entry = self._store_small(state, stop)
        else:
            entry = self._store_large(state, parts, stop, on_last)
        self._refuse_if_changed(state)
        return entry

    def _store_small(self, state: FileState, stop: StopToken) -> FileEntry:
        part = whole_file(self.directory / state.path, size=state.size)
        self._refuse_if_changed(state)
        self._refuse_if_cut(state, part.source)  # the bytes of a file in memory are probed and sent

        def send(key: str) -> Place:
            stop.refuse_if_stopped(f"storing {state.path}")
            metadata = {keys.OWNER: self.attempt.owner}
            etag = self.store.put(key, part, metadata=metadata, condition=Absent())
            self.progress(state.size)
            return Place(key, etag)

        content = (state.size, part.crc64nvme)
        with self._locks.setdefault(content, threading.Lock()):  # files of one content wait
            place = self.known.place(*content) or self._send(state, send)
            entry = self._stored(state, place, part.crc64nvme)
        self._locks.pop(content, None)
        return entry

    def _store_large(
        self, state: FileState, parts: Executor | None, stop: StopToken, on_last: Callable[[], object]
    ) -> FileEntry:
        path = self.directory / state.path
        self._refuse_if_cut(state, path)
        sending = MultipartUpload(
            transfer=Transfer(self.store, parts, stop, self.progress),
            sums=PartSums(path, state.size),
            known=self.known,
            refuse_if_changed=partial(self._refuse_if_changed, state),
            note=partial(self.uploads.begin, path=state.path, size=state.size),
            on_last=on_last,
        )
        send = partial(sending.to, metadata={keys.OWNER: self.attempt.owner}, condition=Absent())
        beginning = (state.size, sum_range(path, 0, MIB))
        with self._locks.setdefault(beginning, threading.Lock()):  # files that may have one content wait
            place = self._resume(state, sending) or self._send(state, send, sending)
            sums = sending.sums.all()
            entry = self._stored(state, place, sums.whole, Grid(part_size(state.size), sums.parts).to_text())
        self._locks.pop(beginning, None)
        if not self.known.copies and not self._warned_of_copies:
            self._warned_of_copies = True
            _LOG.info("this store copies no parts of objects: files that change in part are sent as a whole")
        return entry

    def located(self, entry: FileEntry) -> FileEntry | None:
        """Return an entry with the key of its content now; None when the content has been deleted since."""
        place = self.known.place(entry.size, entry.crc64nvme)
        return None if place is None else replace(entry, key=place.key, etag=place.etag)

    def _refuse_if_cut(self, state: FileState, source: Path | bytes) -> None:
        from holdfast import probes  # noqa: PLC0415  loaded with the first file, not at the start

        try:
            if isinstance(source, bytes):
                finding = probes.probe_content(Path(state.path).name, source, content_budget=_CONTENT_BUDGET)
            else:
                finding = probes.probe(source, content_budget=_CONTENT_BUDGET)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileChangedError(f"{self.directory / state.path} is gone") from error
        except OSError:
            return  # the upload reports an unreadable file
        if finding.verdict is probes.Verdict.CUT:
            raise CutFileError(f"it is not whole: {finding.reason}")

    def _refuse_if_changed(self, state: FileState) -> None:
        if scan.look(self.directory, state.path) != state:
            raise FileChangedError(f"{state.path} changed while it was read")

    def _resume(self, state: FileState, sending: MultipartUpload) -> Place | None:
        """Resume an unfinished upload of this file, of this attempt or an earlier one; None: there is none.

        Its object carries the attempt that began the upload, which decides which host may delete it later; both are
        attempts of this host.
        """
        try:
            note = self.uploads.resumable(self.store, state.path, state.size, self.plain.is_free)
            if note is None:
                return None
            send = partial(sending.to, condition=Absent(), resumed=note)
            return self._send_to(note.upload.key, state, send, sending)
        except (AccessDeniedError, NoBucketError):
            raise
        except PermanentStoreError:
            return None  # the upload has ended, or its parts differ from the journal

    def _send(self, state: FileState, send: Callable[[str], Place], multipart: MultipartUpload | None = None) -> Place:
        """Send a file to its plain key, or to a content key when that is taken, so that nothing is overwritten."""
        if self.plain.is_free(state.path):
            with contextlib.suppress(AlreadyExistsError):
                return self._send_to(state.path, state, send, multipart)
        return self._send_to(self._content_key(state), state, send, multipart)

    def _send_to(
        self, key: str, state: FileState, send: Callable[[str], Place], multipart: MultipartUpload | None
    ) -> Place:
        """Send a file to one key, and note what lies at the key then."""
        is_plain = key == state.path
        try:
            place = send(key)
        except (FileChangedError, StoppedError):
            raise  # nothing has become visible
        except BaseException as error:
            may_be_visible = multipart is None or multipart.completing
            if is_plain and (may_be_visible or isinstance(error, AlreadyExistsError)):
                self.plain.note(key, state.size, None)  # the content of the key is unknown now
            raise
        if place.key == key:
            self.known.sent.add(key)
            if is_plain:
                self.plain.note(key, state.size, place.etag)
        return place

    def _content_key(self, state: FileState) -> str:
        return keys.content_key(self.attempt.number, self.number, self.attempt.slot, state.path)

    def _stored(self, state: FileState, place: Place, crc64nvme: int, parts: str | None = None) -> FileEntry:
        """Return the entry of a stored file, and note where its content lies."""
        if place.key == self._content_key(state):
            self._warn_of_conflict(state, crc64nvme)
        entry = FileEntry(
            path=state.path,
            size=state.size,
            mtime_ns=state.mtime_ns,
            mode=state.mode,
            crc64nvme=crc64nvme,
            key=place.key,
            etag=place.etag,
            parts=parts,
        )
        self.known.add(entry)
        return entry

    def _warn_of_conflict(self, state: FileState, crc64nvme: int) -> None:
        """Warn when another host of this attempt has stored other content under the same path."""
        if not self.attempt.hosts or state.path in self._warned:
            return
        there = self.plain.meet(state.path)
        if there is None or there.origin is not Origin.OTHER_HOST:
            return
        if there.info.size != state.size or there.info.crc64nvme not in (None, crc64nvme):
            self._warned.add(state.path)
            _LOG.warning(
                "%r has other content on another host: both are kept, and each host gets its own back; "
                "let every rank write under a name of its own", state.path,
            )  # fmt: skip
