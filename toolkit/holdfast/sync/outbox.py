"""Send files to the store, and remember what was sent until a commit names it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence
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
"""Large files under way at a time: one is being completed, one sends its last parts, one its first."""


class Outbox:
    """Send files, and remember which of them no snapshot names yet. Not safe for several threads."""

    def __init__(self, uploader: FileUploader, workers: Executor, drivers: Executor | None) -> None:
        self._uploader = uploader
        self._workers = workers
        self._drivers = drivers
        self._sent: dict[str, tuple[FileState, FileEntry]] = {}

    def unsent(self, state: FileState) -> int:
        """Return how many bytes of a file are still to be sent."""
        return 0 if self._find(state) is not None else state.size

    def committed(self, paths: Iterable[str]) -> None:
        """Forget what was sent of these files: a snapshot names it."""
        for path in paths:
            self._sent.pop(path, None)

    def send(
        self, states: Iterable[FileState], *, stop: StopToken
    ) -> tuple[dict[str, FileEntry], dict[str, HoldfastError]]:
        """Send files: small ones in parallel; of large ones, one after the other, the parts in parallel.

        A file that was sent before and has not changed since is not read. Returns the entries of what is stored, by
        path, and why the other files are not.
        """
        self._uploader.number += 1
        states = list(states)
        sent = {state.path: entry for state in states if (entry := self._find(state)) is not None}
        todo = [state for state in states if state.path not in sent]
        steps: list[tuple[FileState, Callable[[], FileEntry]]] = []
        store_file = partial(self._uploader.store_file, stop=stop)
        small = [state for state in todo if state.size < upload.SINGLE_PUT]  # they begin first, in their order
        for batch in batches(small):
            job = self._workers.submit(_all_of, store_file, batch)
            steps += [(state, partial(_outcome, job, number)) for number, state in enumerate(batch)]
        large = [state for state in todo if state.size >= upload.SINGLE_PUT]
        steps += [(state, self._begin_large(partial(store_file, state))) for state in large]
        stored, unfinished = self._take(steps)
        return sent | stored, unfinished

    def _begin_large(self, store_file: Callable[..., FileEntry]) -> Callable[[], FileEntry]:
        """Begin to store a large file; return what waits for its entry, when the parts of the next may begin."""
        with contextlib.suppress(RuntimeError):  # no more threads are allowed here
            if self._drivers is not None:
                last = threading.Event()
                future = self._drivers.submit(store_file, self._workers, on_last=last.set)
                future.add_done_callback(lambda _: last.set())
                last.wait()
                return future.result
        return partial(store_file, self._workers)

    def _take(
        self, steps: Sequence[tuple[FileState, Callable[[], FileEntry]]]
    ) -> tuple[dict[str, FileEntry], dict[str, HoldfastError]]:
        """Wait for all steps; return what is stored, and why the rest is not."""
        stored: dict[str, FileEntry] = {}
        unfinished: dict[str, HoldfastError] = {}
        failure: Exception | None = None
        for state, step in steps:
            try:
                stored[state.path] = step()
                self._sent[state.path] = state, stored[state.path]
            except (AccessDeniedError, NoBucketError) as error:
                failure = failure or error  # about the whole store, not this file
            except (FileChangedError, CutFileError, StoreError, StoppedError) as error:
                unfinished[state.path] = error  # a name that a server or proxy refuses holds back no other
            except Exception as error:  # noqa: BLE001  every future is waited for; the first failure is raised below
                failure = failure or error
        if failure is None and not stored:
            failure = next((error for error in unfinished.values() if isinstance(error, TransientStoreError)), None)
        if failure is not None:
            raise failure
        return stored, unfinished

    def _find(self, state: FileState) -> FileEntry | None:
        """Return the entry of a file that was sent as it is now, if its content has not been deleted since."""
        before, entry = self._sent.get(state.path, (None, None))
        return self._uploader.located(entry) if entry is not None and before == state else None


def _all_of(store_file: Callable[..., FileEntry], states: Iterable[FileState]) -> list[FileEntry | Exception]:
    """Store files one after the other; return the entry of each, or why it has none."""
    outcomes: list[FileEntry | Exception] = []
    for state in states:
        try:
            outcomes.append(store_file(state, None))
        except Exception as error:  # noqa: BLE001  raised where the outcome is taken
            outcomes.append(error)
    return outcomes


def _outcome(job: Future[list[FileEntry | Exception]], number: int) -> FileEntry:
    found = job.result()[number]
    if isinstance(found, Exception):
        raise found
    return found
