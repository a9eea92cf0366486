"""Workers: the threads that move bytes, at ease beside the training or in a hurry."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from enum import Enum
from functools import partial
from typing import Any, ParamSpec, TypeVar

from holdfast.workers.concurrency import Concurrency
from holdfast.workers.rate_limit import RateLimit

P = ParamSpec("P")
T = TypeVar("T")

_Job = tuple[Future[Any], Callable[[], Any]]

MOST = 64
"""Threads of each kind at most: what bounds the memory."""
EASY_NICE = 10
"""What is added to the nice value of threads at ease: a tenth of a core where the training wants the same one."""
_LEAST_NICE = 19

# linux/ioprio.h and the tables of system calls; Python and glibc have no function for it.
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_WHO_PROCESS = 1
_BEST_EFFORT = 2 << 13
_USUAL_IO, _EASY_IO = _BEST_EFFORT | 4, _BEST_EFFORT | 7


class _Kind(Enum):
    EASY = "holdfast-easy"
    FAST = "holdfast-fast"


class Workers(Executor):
    """An executor with two sets of threads: of low priority while the script trains, of normal priority else.

    Both take their jobs from one queue, so that what was queued at ease runs fast as soon as there is a hurry. An
    unprivileged thread that has lowered its priority cannot raise it again: hence two sets. Jobs that run already end
    where they began; where we may, their threads are given normal priority.

    It begins in a hurry. Threads are started when there are jobs for them, and inherit the priority of who submits: a
    job must not submit others.

    Args:
        most: threads of each kind at most.
        concurrency: says how many jobs of one kind may run now; None: as many as there may be threads.
        upload_limit: bytes per second that may leave while at ease, of all threads together; None: no limit.
    """

    def __init__(
        self, most: int = MOST, *, concurrency: Concurrency | None = None, upload_limit: float | None = None
    ) -> None:
        self._most = most
        self._concurrency = concurrency
        self._pace = None if upload_limit is None else RateLimit(upload_limit)
        self._hurrying = threading.Event()
        self._hurrying.set()
        self._lock = threading.Lock()
        self._calls = {kind: threading.Condition(self._lock) for kind in _Kind}
        self._threads: dict[_Kind, list[threading.Thread]] = {kind: [] for kind in _Kind}
        self._idle = dict.fromkeys(_Kind, 0)
        self._running = dict.fromkeys(_Kind, 0)
        self._jobs: deque[_Job] = deque()
        self._jobs_behind: deque[_Job] = deque()
        self.behind: Executor = _Behind(self)
        """The same threads, for what nobody waits for: its jobs are taken when there are no others."""
        self._serving = _Kind.FAST
        self._ended = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As `Executor.submit`."""
        return self._queue(self._jobs, partial(fn, *args, **kwargs))

    def _submit_behind(self, job: Callable[[], T]) -> Future[T]:
        return self._queue(self._jobs_behind, job)

    def _queue(self, jobs: deque[_Job], job: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            if self._ended:
                raise RuntimeError("these workers have been shut down")
            jobs.append((future, job))
            try:
                self._staff()
            except BaseException:
                jobs.pop()
                raise
        return future

    @property
    def _waiting(self) -> int:
        """Jobs that have not begun; asked with the lock held."""
        return len(self._jobs) + len(self._jobs_behind)

    def at_ease(self) -> None:
        """Take the next jobs with low priority and within the upload limit: the script is running."""
        self._hurrying.clear()
        self._serve(_Kind.EASY)

    def hurry(self) -> None:
        """Take all jobs that wait, and those to come, with normal priority and without a limit."""
        self._hurrying.set()
        self._serve(_Kind.FAST)

    def allow(self, wanted: int) -> int:
        """Wait until bytes of a file may be sent, and return how many of the `wanted` ones: at least one.

        A hurry ends the wait at once.
        """
        if self._pace is None or self._hurrying.is_set():
            return wanted
        size = min(wanted, self._pace.piece)
        self._hurrying.wait(self._pace.take(size))
        return size

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002  as its base
        """As `Executor.shutdown`."""
        with self._lock:
            self._ended = True
            dropped = [future for future, _ in (*self._jobs, *self._jobs_behind)] if cancel_futures else []
            if cancel_futures:
                self._jobs.clear()
                self._jobs_behind.clear()
            for call in self._calls.values():
                call.notify_all()
            threads = [thread for kind in _Kind for thread in self._threads[kind]]
        for future in dropped:
            future.cancel()
        if wait:
            for thread in threads:
                thread.join()

    def _serve(self, kind: _Kind) -> None:
        with self._lock:
            self._serving = kind
            self._staff()
            self._calls[kind].notify_all()
            easy = [thread.native_id for thread in self._threads[_Kind.EASY] if thread.is_alive()]
        for thread in easy:
            if thread is not None:
                _set_priority(thread, easy=kind is _Kind.EASY)

    def _staff(self) -> None:
        """See that there is a thread for each waiting job, as far as there may be; called with the lock held."""
        kind, threads = self._serving, self._threads[self._serving]
        wanted = min(self._waiting, self._room(kind))
        for _ in range(min(wanted - self._idle[kind], self._most - len(threads))):
            thread = threading.Thread(target=self._work, args=(kind,), name=f"{kind.value}-{len(threads)}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # this container may have no more: those there are do it, of whichever kind
                if not threads and not self._threads[other := _Kind.EASY if kind is _Kind.FAST else _Kind.FAST]:
                    raise
                self._serving = kind if threads else other
                break
            threads.append(thread)
            self._idle[kind] += 1
        self._calls[self._serving].notify(wanted)

    def _room(self, kind: _Kind) -> int:
        """Return how many more jobs may run; called with the lock held."""
        limit = self._most if self._concurrency is None else self._concurrency.limit
        return max(0, limit - self._running[kind])

    def _work(self, kind: _Kind) -> None:
        if kind is _Kind.EASY:
            _set_priority(threading.get_native_id(), easy=True)
        while self._next(kind):
            with self._lock:
                self._idle[kind] += 1
                self._running[kind] -= 1
                if self._serving is kind:  # else new threads of normal priority would inherit the low one
                    self._staff()  # the limit may have grown, or a thread have waited for this one

    def _next(self, kind: _Kind) -> bool:
        """Wait for a job and do it; return False when there will be none."""
        with self._lock:
            while not (self._waiting and self._serving is kind and self._room(kind)):
                if self._ended and not (self._waiting and self._serving is kind):
                    return False
                self._calls[kind].wait()
            self._idle[kind] -= 1
            self._running[kind] += 1
            future, job = (self._jobs or self._jobs_behind).popleft()
        if future.set_running_or_notify_cancel():
            try:
                result = job()
            except BaseException as error:  # noqa: BLE001  whoever waits for the future gets it
                future.set_exception(error)
            else:
                future.set_result(result)
        return True


class _Behind(Executor):
    """What `Workers.behind` is."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As `Executor.submit`."""
        return self._workers._submit_behind(partial(fn, *args, **kwargs))


def _set_priority(thread: int, *, easy: bool) -> None:
    """Set the CPU and I/O priority of a thread of ours, by its native id. Where that is refused, nothing is lost."""
    ours = os.getpriority(os.PRIO_PROCESS, os.getpid())
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, min(_LEAST_NICE, ours + EASY_NICE) if easy else ours)
    number = _IOPRIO_SET.get(os.uname().machine)
    if number is not None:
        ctypes.CDLL(None).syscall(number, _WHO_PROCESS, thread, _EASY_IO if easy else _USUAL_IO)
