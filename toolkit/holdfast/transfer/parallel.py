"""What all transfers in parts do: parts side by side, nothing left by a failure, a look before many bytes travel."""

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
"""Parts of one file that are handed to the executor at a time. Those that have not begun are dropped when one fails."""


def side_by_side(jobs: Iterable[Callable[[], T]], workers: Executor | None, stop: StopToken, doing: str) -> Iterator[T]:
    """Run jobs, a few at a time, and yield their results as they come. When one fails, none is left running."""
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


def batches(things: Sequence[S]) -> Iterator[Sequence[S]]:
    """Yield few at a time: enough that handing them to a worker costs little, and so few that none is left waiting."""
    most = max(1, min(_BATCH, len(things) // _LEAST_BATCHES))
    few: list[S] = []
    for thing in things:
        few.append(thing)
        if len(few) == most or sum(one.size for one in few) > MIB:
            yield few
            few = []
    if few:
        yield few


@contextmanager
def dropped_on_failure(store: Store, upload: Upload) -> Iterator[None]:
    """Drop the upload when what is done with it fails."""
    try:
        yield
    except BaseException as error:
        drop(store, upload, error)
        raise


def drop(store: Store, upload: Upload, error: BaseException) -> bool:
    """Drop an upload because of an error; return whether that worked: where it did not, the error has a note of it."""
    try:
        store.abort_upload(upload)
    except StoreError as another:
        error.add_note(f"and the parts already sent could not be dropped: {another}")
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
