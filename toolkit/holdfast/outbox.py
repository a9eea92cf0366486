"""The outbox: files of the checkpoint directory go to the store, and what was sent waits for its commit."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path

from holdfast import transfer
from holdfast.disk import FileState, Scan
from holdfast.errors import (
    AccessDeniedError,
    CutFileError,
    FileChangedError,
    HoldfastError,
    NoBucketError,
    StoreError,
    TransientStoreError,
)
from holdfast.multipart import batches
from holdfast.names import is_log
from holdfast.record import FileEntry
from holdfast.storing import Storer
from holdfast.units import TOP_LEVEL, unit_of

Question = Callable[[], bool]


class LeftBehindError(HoldfastError):
    """A file was stored, and is not committed, since another one that it may belong to was not."""


FILES_AT_A_TIME = 3
"""Large files that are under way: one that is completed, one whose last parts travel, one whose first ones do."""


class Outbox:
    """Sends files and remembers which of them no snapshot names yet. Not safe for several threads.

    Args:
        storer: stores one file.
        workers: runs the transfers.
        drivers: runs what waits for the parts of a large file, so that those of the next one are on their way while it
            is completed; None: one file is completed before the next begins. Never the executor of the transfers.
    """

    def __init__(self, storer: Storer, workers: Executor, drivers: Executor | None = None) -> None:
        self._storer = storer
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
        self, states: Iterable[FileState], *, should_stop: Question, should_leave: Question
    ) -> tuple[dict[str, FileEntry], dict[str, HoldfastError]]:
        """Send files: small ones side by side, the parts of large ones side by side, one file after the other.

        A file that was sent before, and that nothing has touched since, is not even read.

        Args:
            states: the files as they were seen.
            should_stop: asked before and while a file is sent.
            should_leave: the same, asked only before.

        Returns:
            What lies in the store, by path, and why the others do not.

        Raises:
            StoreError: the store takes nothing.
        """
        self._storer.number += 1
        stored: dict[str, FileEntry] = {}
        steps: list[tuple[FileState, Callable[[], FileEntry]]] = []
        todo: list[FileState] = []
        for state in states:
            sent = self._find(state)
            if sent is None:
                todo.append(state)
            else:
                stored[state.path] = sent
        store_file = partial(self._storer.store_file, should_stop=should_stop, should_leave=should_leave)
        small = [state for state in todo if state.size < transfer.SINGLE_PUT]  # they begin first, in their order
        for few in batches(small):
            job = self._workers.submit(_all_of, store_file, few)
            steps += [(state, partial(_outcome, job, number)) for number, state in enumerate(few)]
        for state in todo:
            if state.size >= transfer.SINGLE_PUT:
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
            except (FileChangedError, CutFileError, StoreError, transfer.StoppedError) as error:
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
        return self._storer.located(entry) if entry is not None and before == state else None


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


def refuse_cut_sets(
    directory: Path, scan: Scan, changed: Iterable[FileState], waiting: Collection[str], *, alone: bool, more: bool
) -> dict[str, HoldfastError]:
    """Return what changed and is provably not whole because files that belong to it are missing or too short.

    Args:
        directory: the checkpoint directory.
        scan: what is there.
        changed: what is not as the last snapshot has it.
        waiting: checkpoints that are not taken now, whatever they are.
        alone: no other host writes parts of the same checkpoints.
        more: files of the last snapshot are still to come.
    """
    from holdfast import probes  # noqa: PLC0415  as in storing.py

    news = {state.path for state in changed if state.checkpoint not in waiting}
    groups: dict[str, list[str]] = {}
    for path in scan.files if news else ():
        groups.setdefault(unit_of(path), []).append(path)
    found: dict[str, HoldfastError] = {}
    for unit in sorted({unit_of(path) for path in news}):
        with contextlib.suppress(OSError):  # what cannot be read is named when it is to be stored
            reasons = probes.probe_checkpoint(directory, groups[unit], alone=alone)
            if unit == "" and more:  # what it lacks may be what is still to come
                reasons = {path: reason for path, reason in reasons.items() if path in news}
            found |= {path: CutFileError(f"it is not whole: {reason}") for path, reason in reasons.items()}
    return found


def left_behind(
    states: Iterable[FileState], failed: Mapping[str, HoldfastError], overwritten: Collection[str]
) -> dict[str, HoldfastError]:
    """Return which files may not be committed because others did not make it, and why.

    Files at the top level that are overwritten side by side may belong to each other. What changes all the time, or is
    not whole, holds back nothing but itself: otherwise one file that never settles would hold back all others.

    Args:
        states: what was to be stored.
        failed: path → why it was not.
        overwritten: paths of which the last snapshot has an older version.
    """
    group = [
        state.path
        for state in states
        if unit_of(state.path) == TOP_LEVEL and state.path in overwritten and not is_log(state.path)
    ]
    late = [path for path in group if isinstance(failed.get(path), transfer.StoppedError | StoreError)]
    if not late:
        return {}
    reason = LeftBehindError(f"it may belong to {late[0]!r}, which was not stored: {failed[late[0]]}")
    return {path: reason for path in group if path not in failed}
