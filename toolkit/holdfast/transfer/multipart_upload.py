"""Composing: one large file becomes an object, and what the store has of it already does not travel.

Each part is a job of its own: it is read and summed up, and then it is copied inside the store where the store is known
to have these bytes, and sent where it is not. Nothing is read or summed up before that, in one thread, for the whole.
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
from holdfast.transfer.resumable import Note

_KEPT = (StoppedError, TransientStoreError)
"""After these an upload that is noted is not dropped: the next try goes on where it was."""


class CopiesRefusedError(PermanentStoreError):
    """The server copies no parts, or not for us."""


class MultipartUpload:
    """One large file on its way. The checksums that are found stay, when it is sent a second time to another key.

    Args:
        store: where to.
        path: the file.
        size: its bytes, at least 1.
        known: what the store has; finds out whether it copies parts.
        refuse_if_changed: raises FileChangedError when the file is not what it was; asked when all of it has been
            read, and before anything becomes visible.
        stop: ends it between two parts.
        note: notes an upload that has begun, so that it can be gone on with, where it returns a note.
        workers: runs the parts; None: one after the other, in this thread. Never the executor in which this runs.
        progress: gets the bytes of each part that has travelled, always in this thread.
        on_last: called when the last part has been handed to the workers.
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
        note: Callable[[Upload], Note | None] = lambda upload: None,
        workers: Executor | None = None,
        progress: Callable[[int], None] | None = None,
        on_last: Callable[[], object] = lambda: None,
    ) -> None:
        self.sent = 0
        """Bytes of the file that travelled."""
        self.completing = False
        """Whether the store has been asked to make something visible."""
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
        resumed: Note | None = None,
    ) -> Place:
        """Make the file an object, visible whole or not at all, unless the store is known to have its content.

        When what was copied turns out not to fit, or the server copies nothing, all is sent in a new upload.

        Args:
            key: of the object.
            metadata: user metadata.
            condition: what must lie at `key`.
            resumed: an upload to the same key that goes on; its metadata stays what it was. When it cannot go on, that
                is a PermanentStoreError.

        Returns:
            Where the content lies: at `key`, or where it was already.

        Raises:
            FileChangedError: the file is no longer what it was. Nothing became visible.
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

    def _begin(self, key: str, metadata: Metadata | None, condition: Condition | None) -> tuple[Upload, Note | None]:
        look(self.store, key, condition)
        upload = self.store.begin_upload(key, metadata=metadata)
        return upload, self.note(upload)

    def run(self, jobs: Iterable[Callable[[], _Done]]) -> Iterator[_Done]:
        """Run jobs side by side and count what travelled."""
        for done in side_by_side(jobs, self._workers, self._stop, f"storing {self.sums.path}"):
            self.sent += done.sent
            if done.sent and self._progress is not None:
                self._progress(done.sent)
            yield done


@dataclass(frozen=True, slots=True)
class _Done:
    """What became of a part: stored, or put off because it may be that nothing has to travel; the bytes sent."""

    number: int
    stored: StoredPart | None
    sent: int = 0


class _Upload:
    """One upload of a file. It begins with the first part that must travel: a content that is known needs none.

    Args:
        sending: of which file.
        known: what is copied.
        begin: begins it.
        resumed: has begun already.
    """

    def __init__(
        self,
        sending: MultipartUpload,
        known: ContentIndex,
        begin: Callable[[], tuple[Upload, Note | None]],
        resumed: Note | None,
    ) -> None:
        self.copied = False
        """Whether parts of it were copied, or were to be."""
        self._sending, self._sums, self._store = sending, sending.sums, sending.store
        self._known, self._begin_upload = known, begin
        # Without its grid nobody sees part by part that a content is there already.
        self._waits = known.may_have(sending.sums.size) and resumed is None
        self._had = resumed.parts if resumed else {}
        self._upload: tuple[Upload, Note | None] | None = (resumed.upload, resumed) if resumed else None
        self._refused: StoreError | None = None
        self._lock = threading.Lock()
        self._put_off: list[int] = []
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
            note.remove()
        return Place(key, etag)

    def _take(self, results: Iterator[_Done]) -> None:
        for done in results:
            if done.stored is None:
                self._put_off.append(done.number)
            else:
                self._stored[done.number] = done.stored

    def _jobs(self) -> Iterator[Callable[[], _Done]]:
        """Yield a job for each part, and for those that were put off as soon as another one has to travel."""
        for number in range(1, len(self._sums.ranges) + 1):
            while self._upload is not None and self._put_off:
                yield partial(self._move, self._put_off.pop())
            yield partial(self._sum_and_move, number)
        if self._upload is not None and not self._put_off:
            self._sending.on_last()

    def _rest(self) -> Iterator[Callable[[], _Done]]:
        yield from (partial(self._move, number) for number in tuple(self._put_off))
        self._sending.on_last()

    def _sum_and_move(self, number: int) -> _Done:
        crc = self._sums.of(number)
        if self._upload is None and (self._waits or self._source(number, crc) is not None):
            return _Done(number, None)
        return self._move(number)

    def _move(self, number: int) -> _Done:
        """Bring a part into the upload, if it is not there already: by a copy, or else over the wire."""
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
        """Copy a part from where the store has its bytes; None when it is to be sent."""
        source = self._source(number, crc)
        if source is None:
            return None
        self.copied = True
        try:
            return self._store.put_part_copy(upload, number, source)
        except (DamagedError, NotFoundError):
            self._known.gone([source.key])  # or the upload has: the part that is sent then will tell
            return None
        except PermanentStoreError as error:
            self._known.copies = False
            raise CopiesRefusedError(str(error)) from error

    def _begun(self) -> tuple[Upload, Note | None]:
        """Return the upload, begun once; who comes second while it is refused is refused too."""
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
        """Drop what was stored, or leave it for the next try."""
        if self._upload is None:
            return
        upload, note = self._upload
        if note is not None and isinstance(error, _KEPT):
            return
        if drop(self._store, upload, error) and note is not None:
            note.remove()
