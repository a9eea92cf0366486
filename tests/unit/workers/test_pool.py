"""Threads at low priority while the script trains, at normal priority otherwise; one queue for both."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path

import pytest

from holdfast.workers.concurrency import Concurrency
from holdfast.workers.pool import LOW_NICE, Workers

IOPRIO_GET = {"x86_64": 252, "aarch64": 31}


@pytest.fixture
def workers() -> Iterator[Workers]:
    with Workers(4) as pool:
        yield pool


def nice_of(thread: int) -> int:
    """Return the nice value of a thread, as the kernel has it."""
    stat = Path(f"/proc/{os.getpid()}/task/{thread}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[16])


def low() -> int:
    """Return the nice value of a thread at low priority."""
    return min(19, nice_of(os.getpid()) + LOW_NICE)


def where() -> tuple[str, int]:
    """Return the name of this thread and its nice value."""
    return threading.current_thread().name, nice_of(threading.get_native_id())


def io_priority() -> int:
    return int(ctypes.CDLL(None).syscall(IOPRIO_GET[os.uname().machine], 1, threading.get_native_id()))


class Blocked:
    """Jobs that have begun, and end when they are released."""

    def __init__(self, workers: Workers, count: int) -> None:
        self._go = threading.Event()
        begun = threading.Barrier(count + 1)
        self.threads: list[int] = []

        def job() -> None:
            self.threads.append(threading.get_native_id())
            begun.wait(10)
            self._go.wait(10)

        self.futures = [workers.submit(job) for _ in range(count)]
        begun.wait(10)

    def release(self) -> None:
        self._go.set()
        for future in self.futures:
            future.result(10)


def test_it_begins_at_normal_priority(workers: Workers) -> None:
    name, nice = workers.submit(where).result(10)
    assert name.startswith("holdfast-normal")
    assert nice == nice_of(os.getpid())


def test_jobs_run_at_low_priority_and_other_threads_do_not(workers: Workers) -> None:
    workers.use_low_priority()
    name, nice = workers.submit(where).result(10)
    assert name.startswith("holdfast-low")
    assert nice == low()
    assert nice_of(threading.get_native_id()) == nice_of(os.getpid())


@pytest.mark.skipif(os.uname().machine not in IOPRIO_GET, reason="the number of the system call is not known")
def test_at_low_priority_the_disk_serves_others_first(workers: Workers) -> None:
    workers.use_low_priority()
    best_effort, last = 2, 7
    assert workers.submit(io_priority).result(10) == best_effort << 13 | last


def test_after_a_switch_queued_jobs_run_at_normal_priority_and_do_not_wait_for_low_ones(workers: Workers) -> None:
    workers.use_low_priority()
    blocked = Blocked(workers, 4)
    queued = [workers.submit(where) for _ in range(3)]
    assert not any(future.done() for future in queued)
    workers.use_normal_priority()
    assert all(future.result(10)[0].startswith("holdfast-normal") for future in queued)
    assert not any(future.done() for future in blocked.futures)
    blocked.release()


def test_a_switch_gives_running_jobs_normal_priority_where_that_is_allowed(workers: Workers) -> None:
    workers.use_low_priority()
    blocked = Blocked(workers, 2)
    usual = nice_of(os.getpid())
    assert [nice_of(thread) for thread in blocked.threads] == [low(), low()]
    try:
        os.setpriority(os.PRIO_PROCESS, blocked.threads[0], usual)
        allowed = True
    except PermissionError:
        allowed = False
    workers.use_normal_priority()
    assert nice_of(blocked.threads[1]) == (usual if allowed else low())
    workers.use_low_priority()
    assert [nice_of(thread) for thread in blocked.threads] == [low(), low()]
    blocked.release()


def test_jobs_go_back_to_low_priority(workers: Workers) -> None:
    workers.use_low_priority()
    workers.use_normal_priority()
    workers.use_low_priority()
    assert workers.submit(where).result(10)[0].startswith("holdfast-low")


def test_no_more_threads_than_allowed_and_no_more_than_jobs() -> None:
    with Workers(3) as workers:
        assert workers.submit(where).result(10)[0] == workers.submit(where).result(10)[0] == "holdfast-normal-0"
        assert len({workers.submit(where).result(10)[0] for _ in range(20)}) == 1
        blocked = Blocked(workers, 3)
        assert len(set(blocked.threads)) == 3
        queued = workers.submit(where)
        assert not queued.running()
        blocked.release()
        queued.result(10)


@pytest.fixture
def no_more_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Start no more threads, as under a limit of processes that the training has used up."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    return lambda: monkeypatch.setattr(threading.Thread, "start", refuse)


def test_where_no_more_threads_may_be_started_the_existing_ones_do_everything(
    workers: Workers, no_more_threads: Callable[[], None]
) -> None:
    workers.submit(where).result(10)
    no_more_threads()
    assert {future.result(10)[0] for future in [workers.submit(where) for _ in range(20)]} == {"holdfast-normal-0"}


def test_after_a_switch_low_threads_go_on_where_no_others_may_be_started(
    workers: Workers, no_more_threads: Callable[[], None]
) -> None:
    workers.use_low_priority()
    blocked = Blocked(workers, 1)
    queued = workers.submit(where)
    workers.submit(where).result(10)
    no_more_threads()
    workers.use_normal_priority()
    blocked.release()
    assert queued.result(10)[0].startswith("holdfast-low")
    assert workers.submit(where).result(10)[0].startswith("holdfast-low")


def test_where_no_thread_may_be_started_at_all_submit_raises_and_queues_nothing(
    workers: Workers, no_more_threads: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    no_more_threads()
    done: list[int] = []
    with pytest.raises(RuntimeError, match="new thread"):
        workers.submit(done.append, 1)
    monkeypatch.undo()
    workers.submit(done.append, 2).result(10)
    assert done == [2]


def test_results_and_errors_come_through_the_future(workers: Workers) -> None:
    assert list(workers.map(int, ["1", "2", "3"])) == [1, 2, 3]
    with pytest.raises(ValueError, match="invalid literal"):
        workers.submit(int, "x").result(10)
    assert workers.submit(int, "7", base=8).result(10) == 7


def test_a_job_that_was_cancelled_while_it_waited_is_not_run(workers: Workers) -> None:
    blocked = Blocked(workers, 4)
    ran: list[int] = []
    waiting = workers.submit(ran.append, 1)
    assert waiting.cancel()
    blocked.release()
    workers.submit(int).result(10)
    assert ran == []


def test_after_the_shutdown_nothing_is_accepted_and_queued_jobs_are_done() -> None:
    workers = Workers(1)
    blocked = Blocked(workers, 1)
    waiting = workers.submit(int, "5")
    workers.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="shut down"):
        workers.submit(int)
    blocked.release()
    assert waiting.result(10) == 5


def test_a_shutdown_that_cancels_ends_queued_jobs_and_waits_for_running_ones() -> None:
    workers = Workers(1)
    blocked = Blocked(workers, 1)
    waiting = workers.submit(int, "5")
    ending = threading.Thread(target=workers.shutdown, kwargs={"cancel_futures": True})
    ending.start()
    with pytest.raises(CancelledError):
        waiting.result(10)
    assert ending.is_alive()
    blocked.release()
    ending.join(10)
    assert not ending.is_alive()


@pytest.mark.parametrize("switch", [Workers.use_normal_priority, Workers.use_low_priority], ids=["normal", "low"])
def test_a_switch_after_the_shutdown_loses_no_job(switch: Callable[[Workers], None]) -> None:
    workers = Workers(1)
    workers.use_low_priority()
    blocked = Blocked(workers, 1)
    waiting: Future[int] = workers.submit(int, "5")
    workers.shutdown(wait=False)
    switch(workers)
    blocked.release()
    assert waiting.result(10) == 5


def test_without_a_limit_and_at_normal_priority_all_bytes_may_go_at_once(workers: Workers) -> None:
    assert workers.allow(1 << 30) == 1 << 30
    with Workers(1, upload_limit=64e3) as limited:
        assert limited.allow(1 << 30) == 1 << 30


def test_at_low_priority_a_limit_allows_small_steps() -> None:
    with Workers(1, upload_limit=1e6) as workers:
        workers.use_low_priority()
        assert workers.allow(1 << 30) == 31250
        assert workers.allow(100) == 100


def test_a_switch_ends_the_wait_for_the_limit_at_once() -> None:
    with Workers(2, upload_limit=64e3) as workers:
        workers.use_low_priority()
        began = threading.Event()

        def crawl() -> int:
            began.set()
            return sum(workers.allow(1 << 20) for _ in range(1000))  # 4 MB: a minute at low priority

        crawling = workers.submit(crawl)
        began.wait(10)
        workers.use_normal_priority()
        assert crawling.result(10) > 900 << 20


def test_as_many_jobs_run_as_the_concurrency_allows_and_more_when_it_grows() -> None:
    concurrency = Concurrency(start=2)
    with Workers(8, concurrency=concurrency) as workers:
        blocked = Blocked(workers, 2)
        waiting = [workers.submit(where) for _ in range(4)]
        assert not any(future.running() or future.done() for future in waiting)
        concurrency.limit = 4
        blocked.release()
        assert all(future.result(10) for future in waiting)
        wider = Blocked(workers, 4)
        wider.release()


def test_when_the_concurrency_falls_running_jobs_go_on_and_queued_ones_wait() -> None:
    concurrency = Concurrency(start=4)
    with Workers(8, concurrency=concurrency) as workers:
        blocked = Blocked(workers, 4)
        concurrency.limit = 1
        waiting = [workers.submit(where) for _ in range(3)]
        blocked.release()
        assert [future.result(10)[0] for future in waiting]


def test_running_low_jobs_do_not_count_at_normal_priority() -> None:
    with Workers(8, concurrency=Concurrency(start=2)) as workers:
        workers.use_low_priority()
        blocked = Blocked(workers, 2)
        workers.use_normal_priority()
        assert workers.submit(where).result(10)[0].startswith("holdfast-normal")
        blocked.release()


def test_background_jobs_begin_when_no_others_wait() -> None:
    begun: list[str] = []
    with Workers(1) as one:
        blocked = Blocked(one, 1)
        for _ in range(3):
            one.background.submit(begun.append, "background")
        for _ in range(2):
            one.submit(begun.append, "other")
        blocked.release()
    assert begun == ["other"] * 2 + ["background"] * 3


def test_background_jobs_are_cancelled_with_the_rest() -> None:
    one = Workers(1)
    blocked = Blocked(one, 1)
    waiting = one.background.submit(where)
    one.shutdown(wait=False, cancel_futures=True)
    blocked.release()
    assert waiting.cancelled()
