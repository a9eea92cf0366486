"""Upload one large file in parts, and copy the parts that the store already has.

Each part is a job: it is read once for its checksum, then copied inside the store where the content index has it, else
sent. Nothing reads the whole file before that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

from holdfast.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    DamagedError,
    NoBucketError,
    NotFoundError,
    PermanentStoreError,
    StoreError,
    TransientStoreError,
)
from holdfast.stop import StoppedError
from holdfast.store import Condition, Metadata, ObjectRange, Part, StoredPart, Upload
from holdfast.transfer.content_index import ContentIndex, Place
from holdfast.transfer.parallel import Transfer, drop, look
from holdfast.transfer.parts import PartSums, part_size
from holdfast.transfer.resumable import UploadNote

_KEPT = (StoppedError, TransientStoreError)
"""Errors after which an upload with a note is not aborted: the next try resumes it."""


@dataclass(slots=True, kw_only=True)
class MultipartUpload:
    """One large file to upload, if need be to a second key; its checksums are computed once.

    Attributes:
        transfer: its `progress` is called with the bytes of each part that was sent.
        sums: the file and its checksums.
        known: what the store has, and whether it copies parts.
        refuse_if_changed: raises FileChangedError when the file has changed; called after the last read, before
            anything becomes visible.
        note: returns a note with which the upload that has begun can be resumed, or None.
        on_last: called when the last part has been submitted to the workers.
        completing: whether a request to make the object visible was sent.
    """

    transfer: Transfer
    sums: PartSums
    known: ContentIndex
    refuse_if_changed: Callable[[], None]
    note: Callable[[Upload], UploadNote | None] = lambda upload: None
    on_last: Callable[[], object] = lambda: None
    completing: bool = False

    def to(
        self,
        key: str,
        *,
        metadata: Metadata | None = None,
        condition: Condition | None = None,
        resumed: UploadNote | None = None,
    ) -> Place:
        """Upload the file, visible whole or not at all, unless the content index has its content.

        When copied parts do not fit, the whole file is sent in a new upload.

        Args:
            resumed: an upload to the same key to resume, with the metadata it has. When that fails, it is a
                PermanentStoreError.

        Returns:
            Where the content lies: at `key`, or where the index has it.

        Raises:
            FileChangedError: the file has changed. Nothing became visible.
            AlreadyExistsError: the condition does not hold.
            StoppedError: stopped. Nothing became visible.
        """
        upload = _Upload(self, self.known, key, metadata, condition, resumed)
        try:
            return upload.run()
        except (AlreadyExistsError, AccessDeniedError, NoBucketError):
            raise
        except PermanentStoreError:
            if not upload.copied or resumed is not None:
                raise
        return _Upload(self, ContentIndex(), key, metadata, condition, None).run()


class _Upload:
    """One upload of a file. It begins with the first part that must be sent: a known content needs none."""

    def __init__(
        self,
        file: MultipartUpload,
        known: ContentIndex,
        key: str,
        metadata: Metadata | None,
        condition: Condition | None,
        resumed: UploadNote | None,
    ) -> None:
        self.copied = False
        """Whether a copy of a part was tried."""
        self._file, self._sums, self._store = file, file.sums, file.transfer.store
        self._known, self._key, self._metadata, self._condition = known, key, metadata, condition
        # A content without a grid is recognized only when all parts have been read.
        self._waits = known.may_have(file.sums.size) and resumed is None
        self._upload, self._note = resumed.upload if resumed else None, resumed
        self._refused: StoreError | None = None
        self._lock = threading.Lock()
        # Workers append to these.
        self._deferred: list[int] = []
        self._stored: list[StoredPart] = []

    def run(self) -> Place:
        """Store all parts and complete the upload, or find that the content is known."""
        try:
            self._run(self._jobs())
            whole = self._sums.all().whole
            place = self._known.place(self._sums.size, whole) if self._upload is None else None
            if place is not None:
                self._file.refuse_if_changed()
                return place
            self._run(self._rest())
            upload = self._begun()
            self._file.refuse_if_changed()
            look(self._store, self._key, self._condition)
            parts = sorted(self._stored, key=attrgetter("number"))
            self._file.completing = True
            etag = self._store.complete_upload(upload, parts, crc64nvme=whole, condition=self._condition)
        except BaseException as error:
            is_resumable = self._note is not None and isinstance(error, _KEPT)
            if self._upload is not None and not is_resumable and drop(self._store, self._upload, error):
                self._forget()
            raise
        self._forget()
        return Place(self._key, etag)

    def _run(self, jobs: Iterable[Callable[[], int]]) -> None:
        """Run jobs, which return the bytes that they sent."""
        for sent in self._file.transfer.run(jobs, f"storing {self._sums.path}"):
            if sent:
                self._file.transfer.progress(sent)

    def _jobs(self) -> Iterator[Callable[[], int]]:
        """Yield a job for each part, and for the deferred parts once another one had to be sent."""
        for number in range(1, len(self._sums.ranges) + 1):
            while self._upload is not None and self._deferred:
                yield partial(self._move, self._deferred.pop())
            yield partial(self._sum_and_move, number)
        if self._upload is not None and not self._deferred:
            self._file.on_last()

    def _rest(self) -> Iterator[Callable[[], int]]:
        yield from (partial(self._move, number) for number in self._deferred)
        self._file.on_last()

    def _sum_and_move(self, number: int) -> int:
        """Defer a part while it may be of a content that the store has, else move it."""
        self._sums.of(number)
        if self._upload is None and (self._waits or self._source(number) is not None):
            self._deferred.append(number)
            return 0
        return self._move(number)

    def _move(self, number: int) -> int:
        """Copy or send a part, unless the upload already has it."""
        crc = self._sums.of(number)
        start, length = self._sums.ranges[number - 1]
        had = self._note.parts.get(number) if self._note else None
        if had is not None and (had.size, had.crc64nvme) == (length, crc):
            self._stored.append(had)
            return 0
        upload = self._begun()
        stored, sent = self._copied(upload, number), 0
        if stored is None:
            stored = self._store.put_part(upload, number, Part(self._sums.path, start, length, crc))
            sent = length
        if self._note is not None:
            self._note.add(stored)
        self._stored.append(stored)
        return sent

    def _source(self, number: int) -> ObjectRange | None:
        """Return where the store has a part that can be copied."""
        if not self._known.copies:
            return None
        return self._known.part(self._sums.ranges[number - 1][1], self._sums.of(number))

    def _copied(self, upload: Upload, number: int) -> StoredPart | None:
        """Copy a part inside the store; None when it must be sent."""
        source = self._source(number)
        if source is None:
            return None
        self.copied = True
        try:
            return self._store.put_part_copy(upload, number, source)
        except (DamagedError, NotFoundError):
            self._known.gone([source.key])  # or the upload is gone: then sending the part fails too
        except PermanentStoreError:
            self._known.copies = False  # the server copies no parts, or denies it
        return None

    def _begun(self) -> Upload:
        """Return the upload, begun once; after a refusal every caller gets the same error."""
        with self._lock:
            if self._refused is not None:
                raise self._refused
            if self._upload is None:
                try:
                    look(self._store, self._key, self._condition)
                    step = part_size(self._sums.size)
                    upload = self._store.begin_upload(self._key, part_size=step, metadata=self._metadata)
                except StoreError as error:
                    self._refused = error
                    raise
                self._note = self._file.note(upload)
                self._upload = upload
            return self._upload

    def _forget(self) -> None:
        if self._note is not None:
            self._note.journal.remove()
