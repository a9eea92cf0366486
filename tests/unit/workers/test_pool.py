"""Threads of low priority while the script trains, of normal priority when there is a hurry; one queue for both."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path

import pytest

from holdfast.workers.concurrency import Concurrency
from holdfast.workers.pool import EASY_NICE, Workers

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
    """Return the nice value of a thread at ease."""
    return min(19, nice_of(os.getpid()) + EASY_NICE)


def where() -> tuple[str, int]:
    """Say which thread this is, and its priority."""
    return threading.current_thread().name, nice_of(threading.get_native_id())


def io_priority() -> int:
    return int(ctypes.CDLL(None).syscall(IOPRIO_GET[os.uname().machine], 1, threading.get_native_id()))


class Held:
    """Jobs that have begun and do not end before they are let go."""

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

    def let_go(self) -> None:
        self._go.set()
        for future in self.futures:
            future.result(10)


def test_it_begins_in_a_hurry_with_normal_priority(workers: Workers) -> None:
    name, nice = workers.submit(where).result(10)
    assert name.startswith("holdfast-fast")
    assert nice == nice_of(os.getpid())


def test_at_ease_jobs_run_with_low_priority_and_nobody_else_does(workers: Workers) -> None:
    workers.at_ease()
    name, nice = workers.submit(where).result(10)
    assert name.startswith("holdfast-easy")
    assert nice == low()
    assert nice_of(threading.get_native_id()) == nice_of(os.getpid())


@pytest.mark.skipif(os.uname().machine not in IOPRIO_GET, reason="the number of the system call is not known")
def test_at_ease_the_disk_serves_others_first(workers: Workers) -> None:
    workers.at_ease()
    best_effort, last = 2, 7
    assert workers.submit(io_priority).result(10) == best_effort << 13 | last


def test_in_a_hurry_what_was_queued_at_ease_runs_fast_and_waits_for_nothing_that_runs_at_ease(
    workers: Workers,
) -> None:
    workers.at_ease()
    held = Held(workers, 4)
    queued = [workers.submit(where) for _ in range(3)]
    assert not any(future.done() for future in queued)
    workers.hurry()
    assert all(future.result(10)[0].startswith("holdfast-fast") for future in queued)
    assert not any(future.done() for future in held.futures)
    held.let_go()


def test_a_hurry_gives_running_jobs_normal_priority_where_that_is_allowed(workers: Workers) -> None:
    workers.at_ease()
    held = Held(workers, 2)
    usual = nice_of(os.getpid())
    assert [nice_of(thread) for thread in held.threads] == [low(), low()]
    try:
        os.setpriority(os.PRIO_PROCESS, held.threads[0], usual)
        allowed = True
    except PermissionError:
        allowed = False
    workers.hurry()
    assert nice_of(held.threads[1]) == (usual if allowed else low())
    workers.at_ease()
    assert [nice_of(thread) for thread in held.threads] == [low(), low()]
    held.let_go()


def test_at_ease_again_jobs_go_back_to_low_priority(workers: Workers) -> None:
    workers.at_ease()
    workers.hurry()
    workers.at_ease()
    assert workers.submit(where).result(10)[0].startswith("holdfast-easy")


def test_no_more_threads_than_allowed_and_no_more_than_jobs() -> None:
    with Workers(3) as workers:
        assert workers.submit(where).result(10)[0] == workers.submit(where).result(10)[0] == "holdfast-fast-0"
        assert len({workers.submit(where).result(10)[0] for _ in range(20)}) == 1
        held = Held(workers, 3)
        assert len(set(held.threads)) == 3
        queued = workers.submit(where)
        assert not queued.running()
        held.let_go()
        queued.result(10)


@pytest.fixture
def no_more_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let no thread be started any more, as under a limit of processes that the training has used up."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    return lambda: monkeypatch.setattr(threading.Thread, "start", refuse)


def test_where_no_more_threads_may_be_started_those_there_are_do_everything(
    workers: Workers, no_more_threads: Callable[[], None]
) -> None:
    workers.submit(where).result(10)
    no_more_threads()
    assert {future.result(10)[0] for future in [workers.submit(where) for _ in range(20)]} == {"holdfast-fast-0"}


def test_in_a_hurry_threads_at_ease_go_on_where_no_others_may_be_started(
    workers: Workers, no_more_threads: Callable[[], None]
) -> None:
    workers.at_ease()
    held = Held(workers, 1)
    queued = workers.submit(where)
    workers.submit(where).result(10)
    no_more_threads()
    workers.hurry()
    held.let_go()
    assert queued.result(10)[0].startswith("holdfast-easy")
    assert workers.submit(where).result(10)[0].startswith("holdfast-easy")


def test_where_no_thread_may_be_started_at_all_whoever_asks_is_told_and_nothing_stays_behind(
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
    held = Held(workers, 4)
    ran: list[int] = []
    waiting = workers.submit(ran.append, 1)
    assert waiting.cancel()
    held.let_go()
    workers.submit(int).result(10)
    assert ran == []


def test_after_the_shutdown_nothing_is_taken_and_what_waited_is_done() -> None:
    workers = Workers(1)
    held = Held(workers, 1)
    waiting = workers.submit(int, "5")
    workers.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="shut down"):
        workers.submit(int)
    held.let_go()
    assert waiting.result(10) == 5


def test_a_shutdown_that_cancels_ends_what_waits_and_waits_for_what_runs() -> None:
    workers = Workers(1)
    held = Held(workers, 1)
    waiting = workers.submit(int, "5")
    ending = threading.Thread(target=workers.shutdown, kwargs={"cancel_futures": True})
    ending.start()
    with pytest.raises(CancelledError):
        waiting.result(10)
    assert ending.is_alive()
    held.let_go()
    ending.join(10)
    assert not ending.is_alive()


@pytest.mark.parametrize("switch", [Workers.hurry, Workers.at_ease], ids=["hurry", "at ease"])
def test_a_switch_after_the_shutdown_leaves_no_job_behind(switch: Callable[[Workers], None]) -> None:
    workers = Workers(1)
    workers.at_ease()
    held = Held(workers, 1)
    waiting: Future[int] = workers.submit(int, "5")
    workers.shutdown(wait=False)
    switch(workers)
    held.let_go()
    assert waiting.result(10) == 5


def test_without_a_limit_and_in_a_hurry_all_may_go_at_once(workers: Workers) -> None:
    assert workers.allow(1 << 30) == 1 << 30
    with Workers(1, upload_limit=64e3) as limited:
        assert limited.allow(1 << 30) == 1 << 30


def test_at_ease_a_limit_hands_out_small_pieces() -> None:
    with Workers(1, upload_limit=1e6) as workers:
        workers.at_ease()
        assert workers.allow(1 << 30) == 31250
        assert workers.allow(100) == 100


def test_a_hurry_ends_the_wait_for_the_limit_at_once() -> None:
    with Workers(2, upload_limit=64e3) as workers:
        workers.at_ease()
        began = threading.Event()

        def crawl() -> int:
            began.set()
            return sum(workers.allow(1 << 20) for _ in range(1000))  # 4 MB: a minute at ease

        crawling = workers.submit(crawl)
        began.wait(10)
        workers.hurry()
        assert crawling.result(10) > 900 << 20


def test_as_many_jobs_run_as_are_worth_it_and_more_when_more_are() -> None:
    worth = Concurrency(start=2)
    with Workers(8, concurrency=worth) as workers:
        held = Held(workers, 2)
        waiting = [workers.submit(where) for _ in range(4)]
        assert not any(future.running() or future.done() for future in waiting)
        worth.limit = 4
        held.let_go()
        assert all(future.result(10) for future in waiting)
        wider = Held(workers, 4)
        wider.let_go()


def test_when_fewer_are_worth_it_what_runs_goes_on_and_what_waits_waits() -> None:
    worth = Concurrency(start=4)
    with Workers(8, concurrency=worth) as workers:
        held = Held(workers, 4)
        worth.limit = 1
        waiting = [workers.submit(where) for _ in range(3)]
        held.let_go()
        assert [future.result(10)[0] for future in waiting]


def test_what_runs_at_ease_does_not_count_in_a_hurry() -> None:
    with Workers(8, concurrency=Concurrency(start=2)) as workers:
        workers.at_ease()
        held = Held(workers, 2)
        workers.hurry()
        assert workers.submit(where).result(10)[0].startswith("holdfast-fast")
        held.let_go()


def test_what_nobody_waits_for_begins_when_nothing_else_waits() -> None:
    begun: list[str] = []
    with Workers(1) as one:
        held = Held(one, 1)
        for _ in range(3):
            one.behind.submit(begun.append, "behind")
        for _ in range(2):
            one.submit(begun.append, "other")
        held.let_go()
    assert begun == ["other"] * 2 + ["behind"] * 3


def test_what_nobody_waits_for_is_dropped_with_the_rest() -> None:
    one = Workers(1)
    held = Held(one, 1)
    waiting = one.behind.submit(where)
    one.shutdown(wait=False, cancel_futures=True)
    held.let_go()
    assert waiting.cancelled()
