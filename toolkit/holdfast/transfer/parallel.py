"""Run the parts of a transfer in parallel, abort uploads on failure, and check conditions before many bytes travel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from itertools import islice
from typing import Protocol, TypeVar

from holdfast.errors import AlreadyExistsError, NotFoundError, StoreError
from holdfast.stop import StopToken
from holdfast.store import Condition, Replaces, Store, Upload
from holdfast.transfer.parts import MIB

T = TypeVar("T")
S = TypeVar("S", bound="_Sized")

_BATCH = 8
_LEAST_BATCHES = 64


class _Sized(Protocol):
    @property
    def size(self) -> int: ...


IN_FLIGHT = 64
"""Parts of one file that are in the executor at a time. When one fails, those that have not begun are cancelled."""


def side_by_side(jobs: Iterable[Callable[[], T]], workers: Executor | None, stop: StopToken, doing: str) -> Iterator[T]:
    """Run jobs in parallel and yield their results as they come. After a failure, or a stop, none is left running."""
    if workers is None:
        for job in jobs:
            stop.refuse_if_stopped(doing)
            yield job()
        return
    queue = iter(jobs)
    running: set[Future[T]] = set()
    try:
        while True:
            stop.refuse_if_stopped(doing)
            running.update(workers.submit(job) for job in islice(queue, IN_FLIGHT - len(running)))
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


@contextmanager
def dropped_on_failure(store: Store, upload: Upload) -> Iterator[None]:
    """Abort the upload when the body of the `with` fails."""
    try:
        yield
    except BaseException as error:
        drop(store, upload, error)
        raise


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
        there = store.head(key).etag
    except NotFoundError:
        there = None
    if there != (condition.etag if isinstance(condition, Replaces) else None):
        raise AlreadyExistsError(f"there is {'nothing' if there is None else 'an object of other content'} at {key!r}")
