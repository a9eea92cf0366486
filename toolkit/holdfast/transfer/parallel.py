"""Run the parts of a transfer in parallel, and check conditions before many bytes travel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar

from holdfast.errors import AlreadyExistsError, NotFoundError, StoreError
from holdfast.stop import NEVER, StopToken
from holdfast.store import Condition, Replaces, Store, Upload
from holdfast.transfer.parts import MIB

T = TypeVar("T")
S = TypeVar("S", bound="_Sized")

_BATCH = 8
_LEAST_BATCHES = 64
_IN_FLIGHT = 64
"""Parts of one file that are in the executor at a time. When one fails, those that have not begun are cancelled."""


class _Sized(Protocol):
    @property
    def size(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Transfer:
    """The means of a transfer, which is synchronous.

    Attributes:
        workers: executor for the parts of a large file, not the one in which the transfer itself runs, because it waits
            for them (default: one part after the other, in the calling thread).
        stop: ends the transfer between two parts.
        progress: called in the calling thread with the bytes of each part that has travelled.
    """

    store: Store
    workers: Executor | None = None
    stop: StopToken = NEVER
    progress: Callable[[int], None] = lambda size: None

    def run(self, jobs: Iterable[Callable[[], T]], doing: str) -> Iterator[T]:
        """Run jobs in parallel and yield their results as they come. After a failure or a stop, none is left running.

        Raises:
            StoppedError: stopped by `stop`; it names what was being done.
        """
        if self.workers is None:
            for job in jobs:
                self.stop.refuse_if_stopped(doing)
                yield job()
            return
        queue = iter(jobs)
        running: set[Future[T]] = set()
        try:
            while True:
                self.stop.refuse_if_stopped(doing)
                running.update(self.workers.submit(job) for job in islice(queue, _IN_FLIGHT - len(running)))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            for future in running:
                future.cancel()
            wait(running)


def batches(files: Sequence[S]) -> Iterator[Sequence[S]]:
    """Yield batches of small files: large enough that submitting costs little, small enough that no worker is idle."""
    most = max(1, min(_BATCH, len(files) // _LEAST_BATCHES))
    batch: list[S] = []
    for file in files:
        batch.append(file)
        if len(batch) == most or sum(member.size for member in batch) > MIB:
            yield batch
            batch = []
    if batch:
        yield batch


def drop(store: Store, upload: Upload, error: BaseException) -> bool:
    """Abort an upload because of an error; return whether that worked. If not, the error gets a note."""
    try:
        store.abort_upload(upload)
    except StoreError as failure:
        error.add_note(f"and the parts already sent could not be dropped: {failure}")
        return False
    return True


def look(store: Store, key: str, condition: Condition | None) -> None:
    """Look at a key before bytes travel for it, and again before they take it.

    What counts is the condition that goes along with the last request; on servers that ignore it, this is all there is.

    Raises:
        AlreadyExistsError: what lies at the key is not what the condition allows.
    """
    if condition is None:
        return
    try:
        etag = store.head(key).etag
    except NotFoundError:
        etag = None
    if etag != (condition.etag if isinstance(condition, Replaces) else None):
        raise AlreadyExistsError(f"there is {'nothing' if etag is None else 'an object of other content'} at {key!r}")
