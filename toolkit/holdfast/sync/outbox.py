"""The outbox: files of the checkpoint directory go to the store, and what was sent waits for its commit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from functools import partial

from holdfast.errors import (
    AccessDeniedError,
    CutFileError,
    FileChangedError,
    HoldfastError,
    NoBucketError,
    StoreError,
    TransientStoreError,
)
from holdfast.local.scan import FileState
from holdfast.snapshot.record import FileEntry
from holdfast.stop import StoppedError, StopToken
from holdfast.sync.file_upload import FileUploader
from holdfast.transfer import upload
from holdfast.transfer.parallel import batches

FILES_AT_A_TIME = 3
"""Large files that are under way: one that is completed, one whose last parts travel, one whose first ones do."""


class Outbox:
    """Sends files and remembers which of them no snapshot names yet. Not safe for several threads.

    Args:
        uploader: stores one file.
        workers: runs the transfers.
        drivers: runs what waits for the parts of a large file, so that those of the next one are on their way while it
            is completed; None: one file is completed before the next begins. Never the executor of the transfers.
    """

    def __init__(self, uploader: FileUploader, workers: Executor, drivers: Executor | None = None) -> None:
        self._uploader = uploader
        self._workers = workers
        self._drivers = drivers
        self._sent: dict[str, tuple[FileState, FileEntry]] = {}

    def unsent(self, state: FileState) -> int:
        """Return how many bytes of a file have yet to travel."""
        return 0 if self._find(state) is not None else state.size

    def committed(self, paths: Iterable[str]) -> None:
        """Take it that a snapshot names what was sent of these files."""
        for path in paths:
            self._sent.pop(path, None)

    def send(
        self, states: Iterable[FileState], *, stop: StopToken
    ) -> tuple[dict[str, FileEntry], dict[str, HoldfastError]]:
        """Send files: small ones side by side, the parts of large ones side by side, one file after the other.

        A file that was sent before, and that nothing has touched since, is not even read.

        Args:
            states: the files as they were seen.
            stop: ends it between two parts; when winding down, no other file begins.

        Returns:
            What lies in the store, by path, and why the others do not.

        Raises:
            StoreError: the store takes nothing.
        """
        self._uploader.number += 1
        stored: dict[str, FileEntry] = {}
        steps: list[tuple[FileState, Callable[[], FileEntry]]] = []
        todo: list[FileState] = []
        for state in states:
            sent = self._find(state)
            if sent is None:
                todo.append(state)
            else:
                stored[state.path] = sent
        store_file = partial(self._uploader.store_file, stop=stop)
        small = [state for state in todo if state.size < upload.SINGLE_PUT]  # they begin first, in their order
        for few in batches(small):
            job = self._workers.submit(_all_of, store_file, few)
            steps += [(state, partial(_outcome, job, number)) for number, state in enumerate(few)]
        for state in todo:
            if state.size >= upload.SINGLE_PUT:
                steps.append((state, self._begin_large(partial(store_file, state))))
        unfinished = self._take(steps, stored)
        return stored, unfinished

    def _begin_large(self, store_file: Callable[..., FileEntry]) -> Callable[[], FileEntry]:
        """Begin to store a large file, and return when there is room for the parts of the next; its result follows."""
        if self._drivers is None:
            return partial(store_file, self._workers)
        last = threading.Event()
        try:
            future = self._drivers.submit(store_file, self._workers, on_last=last.set)
        except RuntimeError:  # this container may have no more threads
            return partial(store_file, self._workers)
        future.add_done_callback(lambda _: last.set())
        last.wait()
        return future.result

    def _take(
        self, steps: list[tuple[FileState, Callable[[], FileEntry]]], stored: dict[str, FileEntry]
    ) -> dict[str, HoldfastError]:
        """Wait for all, note what lies in the store by now, and return why the others do not."""
        unfinished: dict[str, HoldfastError] = {}
        failure: Exception | None = None
        some = False
        for state, step in steps:
            try:
                stored[state.path] = step()
                self._sent[state.path] = state, stored[state.path]
                some = True
            except (AccessDeniedError, NoBucketError) as error:
                failure = failure or error  # not of this file, but of the whole store
            except (FileChangedError, CutFileError, StoreError, StoppedError) as error:
                unfinished[state.path] = error  # one name that a server or a proxy refuses holds back no other
            except Exception as error:  # noqa: BLE001  every future is waited for; the first failure is raised below
                failure = failure or error
        if failure is None and not some:
            failure = next((error for error in unfinished.values() if isinstance(error, TransientStoreError)), None)
        if failure is not None:
            raise failure
        return unfinished

    def _find(self, state: FileState) -> FileEntry | None:
        """Return where the content of a file lies, if it was sent as it is and has not been deleted since."""
        before, entry = self._sent.get(state.path, (None, None))
        return self._uploader.located(entry) if entry is not None and before == state else None


def _all_of(store_file: Callable[..., FileEntry], states: Iterable[FileState]) -> list[FileEntry | Exception]:
    """Store files one after the other; return the entry of each, or why it has none."""
    outcomes: list[FileEntry | Exception] = []
    for state in states:
        try:
            outcomes.append(store_file(state, None))
        except Exception as error:  # noqa: BLE001  whoever takes the outcome gets it
            outcomes.append(error)
    return outcomes


def _outcome(job: Future[list[FileEntry | Exception]], number: int) -> FileEntry:
    found = job.result()[number]
    if isinstance(found, Exception):
        raise found
    return found
