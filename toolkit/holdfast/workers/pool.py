"""Worker threads for transfers, at low or normal priority."""

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
"""Threads of each priority at most: what bounds the memory."""
LOW_NICE = 10
"""Added to the nice value for low priority: a tenth of a core where the training wants the same one."""
_MAX_NICE = 19

# linux/ioprio.h and the tables of system calls; Python and glibc have no function for it.
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_WHO_PROCESS = 1
_BEST_EFFORT = 2 << 13
_NORMAL_IO, _LOW_IO = _BEST_EFFORT | 4, _BEST_EFFORT | 7


class _Priority(Enum):
    LOW = "holdfast-low"
    NORMAL = "holdfast-normal"


class Workers(Executor):
    """An executor with two sets of threads: low priority while the script trains, normal priority otherwise.

    Both take jobs from one queue, so jobs that were queued for low priority run at normal priority after a switch. An
    unprivileged thread that has lowered its priority cannot raise it again: hence two sets. A running job ends in the
    thread where it began; where that is permitted, the thread gets normal priority.

    It starts at normal priority. Threads are started when there are jobs for them, and inherit the priority of the
    thread that submits: a job must not submit others.

    Args:
        most: threads of each priority at most (default 64).
        concurrency: limits the jobs of one priority that run at a time; None: the number of threads does.
        upload_limit: bytes per second sent at low priority, by all threads together; None: no limit.
    """

    def __init__(
        self, most: int = MOST, *, concurrency: Concurrency | None = None, upload_limit: float | None = None
    ) -> None:
        self._most = most
        self._concurrency = concurrency
        self._rate_limit = None if upload_limit is None else RateLimit(upload_limit)
        self._unlimited = threading.Event()
        self._unlimited.set()
        self._lock = threading.Lock()
        self._wakeups = {priority: threading.Condition(self._lock) for priority in _Priority}
        self._threads: dict[_Priority, list[threading.Thread]] = {priority: [] for priority in _Priority}
        self._idle = dict.fromkeys(_Priority, 0)
        self._running = dict.fromkeys(_Priority, 0)
        self._jobs: deque[_Job] = deque()
        self._background_jobs: deque[_Job] = deque()
        self.background: Executor = _Background(self)
        """The same threads; its jobs are taken when there are no others."""
        self._serving = _Priority.NORMAL
        self._ended = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As `Executor.submit`."""
        return self._queue(self._jobs, partial(fn, *args, **kwargs))

    def _submit_background(self, job: Callable[[], T]) -> Future[T]:
        return self._queue(self._background_jobs, job)

    def _queue(self, jobs: deque[_Job], job: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            if self._ended:
                raise RuntimeError("these workers have been shut down")
            jobs.append((future, job))
            try:
                self._start_threads()
            except BaseException:
                jobs.pop()
                raise
        return future

    @property
    def _waiting(self) -> int:
        """Jobs that have not begun; read with the lock held."""
        return len(self._jobs) + len(self._background_jobs)

    def use_low_priority(self) -> None:
        """Run the next jobs at low priority and within the upload limit."""
        self._unlimited.clear()
        self._serve(_Priority.LOW)

    def use_normal_priority(self) -> None:
        """Run all jobs that wait, and those to come, at normal priority and without a limit."""
        self._unlimited.set()
        self._serve(_Priority.NORMAL)

    def allow(self, wanted: int) -> int:
        """Wait until bytes of a file may be sent, and return how many of the `wanted` ones: at least one.

        A switch to normal priority ends the wait at once.
        """
        if self._rate_limit is None or self._unlimited.is_set():
            return wanted
        size = min(wanted, self._rate_limit.step)
        self._unlimited.wait(self._rate_limit.take(size))
        return size

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002  as its base
        """As `Executor.shutdown`."""
        with self._lock:
            self._ended = True
            dropped = [future for future, _ in (*self._jobs, *self._background_jobs)] if cancel_futures else []
            if cancel_futures:
                self._jobs.clear()
                self._background_jobs.clear()
            for wakeup in self._wakeups.values():
                wakeup.notify_all()
            threads = [thread for threads in self._threads.values() for thread in threads]
        for future in dropped:
            future.cancel()
        if wait:
            for thread in threads:
                thread.join()

    def _serve(self, priority: _Priority) -> None:
        with self._lock:
            self._serving = priority
            self._start_threads()
            self._wakeups[priority].notify_all()
            low = [thread.native_id for thread in self._threads[_Priority.LOW] if thread.is_alive()]
        for thread in low:
            if thread is not None:
                _set_priority(thread, priority)

    def _start_threads(self) -> None:
        """Start and wake threads for the jobs that wait, up to the limits; called with the lock held."""
        priority, threads = self._serving, self._threads[self._serving]
        wanted = min(self._waiting, self._room(priority))
        for _ in range(min(wanted - self._idle[priority], self._most - len(threads))):
            name = f"{priority.value}-{len(threads)}"
            thread = threading.Thread(target=self._work, args=(priority,), name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # this container may have no more threads: the existing ones do it, of either priority
                other = _Priority.LOW if priority is _Priority.NORMAL else _Priority.NORMAL
                if not threads and not self._threads[other]:
                    raise
                self._serving = priority if threads else other
                break
            threads.append(thread)
            self._idle[priority] += 1
        self._wakeups[self._serving].notify(wanted)

    def _room(self, priority: _Priority) -> int:
        """Return how many more jobs may run; called with the lock held."""
        limit = self._most if self._concurrency is None else self._concurrency.limit
        return max(0, limit - self._running[priority])

    def _work(self, priority: _Priority) -> None:
        if priority is _Priority.LOW:
            _set_priority(threading.get_native_id(), priority)
        while self._next(priority):
            with self._lock:
                self._idle[priority] += 1
                self._running[priority] -= 1
                if self._serving is priority:  # else new threads of normal priority would inherit the low one
                    self._start_threads()  # the limit may have grown, or a thread have waited for this one

    def _next(self, priority: _Priority) -> bool:
        """Wait for a job and run it; return False when there will be none."""
        with self._lock:
            while not (self._waiting and self._serving is priority and self._room(priority)):
                if self._ended and not (self._waiting and self._serving is priority):
                    return False
                self._wakeups[priority].wait()
            self._idle[priority] -= 1
            self._running[priority] += 1
            future, job = (self._jobs or self._background_jobs).popleft()
        if future.set_running_or_notify_cancel():
            try:
                result = job()
            except BaseException as error:  # noqa: BLE001  it is raised where the future's result is asked for
                future.set_exception(error)
            else:
                future.set_result(result)
        return True


class _Background(Executor):
    """What `Workers.background` is."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As `Executor.submit`."""
        return self._workers._submit_background(partial(fn, *args, **kwargs))


def _set_priority(thread: int, priority: _Priority) -> None:
    """Set the CPU and I/O priority of a thread of this process, by its native id. A refusal is ignored."""
    low = priority is _Priority.LOW
    normal_nice = os.getpriority(os.PRIO_PROCESS, os.getpid())
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, min(_MAX_NICE, normal_nice + LOW_NICE) if low else normal_nice)
    number = _IOPRIO_SET.get(os.uname().machine)
    if number is not None:
        ctypes.CDLL(None).syscall(number, _WHO_PROCESS, thread, _LOW_IO if low else _NORMAL_IO)
