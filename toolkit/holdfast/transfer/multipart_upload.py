"""Upload one large file in parts, and copy the parts that the store already has.

Each part is a job: it is read once for its checksum, then copied inside the store where the content index has it, else
sent. Nothing reads the whole file before that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

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
from holdfast.stop import StoppedError, StopToken
from holdfast.store import Condition, Metadata, ObjectRange, Part, Store, StoredPart, Upload
from holdfast.transfer.content_index import ContentIndex, Place
from holdfast.transfer.parallel import drop, look, side_by_side
from holdfast.transfer.parts import PartSums
from holdfast.transfer.resumable import UploadNote

_KEPT = (StoppedError, TransientStoreError)
"""Errors after which an upload with a note is not aborted: the next try resumes it."""


class CopiesRefusedError(PermanentStoreError):
    """The server does not copy parts, or denies it."""


class MultipartUpload:
    """Upload one large file, if need be to a second key; its checksums are computed once.

    Args:
        store: the store.
        path: the file.
        size: its size in bytes, at least 1.
        known: what the store has, and whether it copies parts.
        refuse_if_changed: raises FileChangedError when the file has changed; called after the last read, before
            anything becomes visible.
        stop: ends it between two parts.
        note: returns a note with which the upload that has begun can be resumed, or None.
        workers: executor for the parts, not the one in which this runs (default: one after the other, in this thread).
        progress: called in this thread with the bytes of each part that was sent.
        on_last: called when the last part has been submitted to the workers.
    """

    def __init__(
        self,
        store: Store,
        path: Path,
        size: int,
        *,
        known: ContentIndex,
        refuse_if_changed: Callable[[], None],
        stop: StopToken,
        note: Callable[[Upload], UploadNote | None] = lambda upload: None,
        workers: Executor | None = None,
        progress: Callable[[int], None] | None = None,
        on_last: Callable[[], object] = lambda: None,
    ) -> None:
        self.sent = 0
        """Bytes of the file that were sent."""
        self.completing = False
        """Whether a request to make the object visible was sent."""
        self.sums = PartSums(path, size)
        self.store, self.known = store, known
        self.refuse_if_changed, self.note, self.on_last = refuse_if_changed, note, on_last
        self._workers, self._progress, self._stop = workers, progress, stop

    def to(
        self,
        key: str,
        *,
        metadata: Metadata | None = None,
        condition: Condition | None = None,
        resumed: UploadNote | None = None,
    ) -> Place:
        """Upload the file, visible whole or not at all, unless the content index has its content.

        When copied parts do not fit, or the server does not copy, the whole file is sent in a new upload.

        Args:
            key: key of the object.
            metadata: user metadata.
            condition: what must lie at `key`.
            resumed: an upload to the same key to resume, with the metadata it has. When that fails, it is a
                PermanentStoreError.

        Returns:
            Where the content lies: at `key`, or where the index has it.

        Raises:
            FileChangedError: the file has changed. Nothing became visible.
            AlreadyExistsError: the condition does not hold.
            StoppedError: stopped by `stop`. Nothing became visible.
            StoreError: the store did not take it.
        """
        begin = partial(self._begin, key, metadata, condition)
        upload = _Upload(self, self.known, begin, resumed)
        try:
            return upload.run(key, condition)
        except (AlreadyExistsError, AccessDeniedError, NoBucketError):
            raise
        except PermanentStoreError:
            if not upload.copied or resumed is not None:
                raise
        return _Upload(self, ContentIndex(), begin, None).run(key, condition)

    def _begin(
        self, key: str, metadata: Metadata | None, condition: Condition | None
    ) -> tuple[Upload, UploadNote | None]:
        look(self.store, key, condition)
        upload = self.store.begin_upload(key, metadata=metadata)
        return upload, self.note(upload)

    def run(self, jobs: Iterable[Callable[[], _Done]]) -> Iterator[_Done]:
        """Run jobs in parallel and count the bytes sent."""
        for done in side_by_side(jobs, self._workers, self._stop, f"storing {self.sums.path}"):
            self.sent += done.sent
            if done.sent and self._progress is not None:
                self._progress(done.sent)
            yield done


@dataclass(frozen=True, slots=True)
class _Done:
    """The result of one part: stored, or None where it is deferred, and the bytes sent."""

    number: int
    stored: StoredPart | None
    sent: int = 0


class _Upload:
    """One upload of a file. It begins with the first part that must be sent: a known content needs none.

    Args:
        sending: the file.
        known: contents whose parts are copied.
        begin: begins the upload.
        resumed: note of an upload that has begun already.
    """

    def __init__(
        self,
        sending: MultipartUpload,
        known: ContentIndex,
        begin: Callable[[], tuple[Upload, UploadNote | None]],
        resumed: UploadNote | None,
    ) -> None:
        self.copied = False
        """Whether a copy of a part was tried."""
        self._sending, self._sums, self._store = sending, sending.sums, sending.store
        self._known, self._begin_upload = known, begin
        # A content without a grid is recognized only when all parts have been read.
        self._waits = known.may_have(sending.sums.size) and resumed is None
        self._had = resumed.parts if resumed else {}
        self._upload: tuple[Upload, UploadNote | None] | None = (resumed.upload, resumed) if resumed else None
        self._refused: StoreError | None = None
        self._lock = threading.Lock()
        self._deferred: list[int] = []
        self._stored: dict[int, StoredPart] = {}

    def run(self, key: str, condition: Condition | None) -> Place:
        """Store all parts and complete the upload, or find that the content is known."""
        try:
            self._take(self._sending.run(self._jobs()))
            sums = self._sums.all()
            place = self._known.place(sums.size, sums.whole) if self._upload is None else None
            if place is not None:
                self._sending.refuse_if_changed()
                return place
            self._take(self._sending.run(self._rest()))
            upload, note = self._begun()
            self._sending.refuse_if_changed()
            look(self._store, key, condition)
            parts = [part for _, part in sorted(self._stored.items())]
            self._sending.completing = True
            etag = self._store.complete_upload(upload, parts, crc64nvme=sums.whole, condition=condition)
        except BaseException as error:
            self._drop(error)
            raise
        if note is not None:
            note.journal.remove()
        return Place(key, etag)

    def _take(self, results: Iterator[_Done]) -> None:
        for done in results:
            if done.stored is None:
                self._deferred.append(done.number)
            else:
                self._stored[done.number] = done.stored

    def _jobs(self) -> Iterator[Callable[[], _Done]]:
        """Yield a job for each part, and for the deferred parts once another one had to be sent."""
        for number in range(1, len(self._sums.ranges) + 1):
            while self._upload is not None and self._deferred:
                yield partial(self._move, self._deferred.pop())
            yield partial(self._sum_and_move, number)
        if self._upload is not None and not self._deferred:
            self._sending.on_last()

    def _rest(self) -> Iterator[Callable[[], _Done]]:
        yield from (partial(self._move, number) for number in tuple(self._deferred))
        self._sending.on_last()

    def _sum_and_move(self, number: int) -> _Done:
        crc = self._sums.of(number)
        if self._upload is None and (self._waits or self._source(number, crc) is not None):
            return _Done(number, None)
        return self._move(number)

    def _move(self, number: int) -> _Done:
        """Copy or send a part, unless the upload already has it."""
        crc = self._sums.of(number)
        start, length = self._sums.ranges[number - 1]
        had = self._had.get(number)
        if had is not None and (had.size, had.crc64nvme) == (length, crc):
            return _Done(number, had)
        upload, note = self._begun()
        stored, sent = self._copied(upload, number, crc), 0
        if stored is None:
            stored = self._store.put_part(upload, number, Part(self._sums.path, start, length, crc))
            sent = length
        if note is not None:
            note.add(stored)
        return _Done(number, stored, sent)

    def _source(self, number: int, crc: int) -> ObjectRange | None:
        return self._known.part(self._sums.ranges[number - 1][1], crc) if self._known.copies else None

    def _copied(self, upload: Upload, number: int, crc: int) -> StoredPart | None:
        """Copy a part inside the store; None when it must be sent."""
        source = self._source(number, crc)
        if source is None:
            return None
        self.copied = True
        try:
            return self._store.put_part_copy(upload, number, source)
        except (DamagedError, NotFoundError):
            self._known.gone([source.key])  # or the upload is gone: then sending the part fails too
            return None
        except PermanentStoreError as error:
            self._known.copies = False
            raise CopiesRefusedError(str(error)) from error

    def _begun(self) -> tuple[Upload, UploadNote | None]:
        """Return the upload, begun once; after a refusal every caller gets the same error."""
        with self._lock:
            if self._refused is not None:
                raise self._refused
            if self._upload is None:
                try:
                    self._upload = self._begin_upload()
                except StoreError as error:
                    self._refused = error
                    raise
            return self._upload

    def _drop(self, error: BaseException) -> None:
        """Abort the upload, or leave it for the next try."""
        if self._upload is None:
            return
        upload, note = self._upload
        if note is not None and isinstance(error, _KEPT):
            return
        if drop(self._store, upload, error) and note is not None:
            note.journal.remove()
