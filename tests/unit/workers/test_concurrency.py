"""More requests at a time while throughput grows, fewer when the server asks for less."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from holdfast.workers.concurrency import Concurrency

MIB = 1 << 20


class Server:
    """A server with a time for each request, and a number of bytes per second for all of them together."""

    def __init__(
        self, *, seconds: float, rate: float, size: int = MIB, refuses_from: int = 1000, cpu: float = 0.0
    ) -> None:
        self.now = self.cpu = 0.0
        self.concurrency = Concurrency(clock=lambda: self.now, cpu=lambda: self.cpu)
        self.cpu_of_each = cpu
        self.seconds, self.rate, self.size, self.refuses_from = seconds, rate, size, refuses_from
        self.limits: list[int] = []
        self.seconds_more: Callable[[int], float] = lambda together: 0.0

    def serve(self, rounds: int) -> list[int]:
        """Make as many requests at a time as the limit allows, again and again; return the limits."""
        for _ in range(rounds):
            together = self.concurrency.limit
            for _ in range(together):
                self.concurrency.began()
            waited = max(self.seconds, together * self.size / self.rate)
            took = max(waited, together * self.cpu_of_each) + self.seconds_more(together)
            for number in range(together):  # steadily, one after another
                self.now += took / together
                self.cpu += self.cpu_of_each
                self.concurrency.ended(self.size, refused=number >= self.refuses_from, waited=waited)
            self.limits.append(self.concurrency.limit)
        return self.limits


def test_it_begins_with_eight() -> None:
    assert Concurrency().limit == 8


def test_it_grows_to_its_bound_while_requests_only_wait() -> None:
    server = Server(seconds=0.03, rate=1e12, size=64 << 10)
    limits = server.serve(400)
    assert limits[-1] >= 60
    assert max(limits) <= 64


def test_it_stays_where_more_requests_bring_no_more_bytes() -> None:
    limits = Server(seconds=0.03, rate=100 * MIB).serve(300)
    assert max(limits) <= 18
    assert sorted(limits)[len(limits) // 2] <= 12


def test_it_finds_the_knee() -> None:
    limits = Server(seconds=0.1, rate=200 * MIB).serve(500)  # 20 at a time fill the line
    assert 18 <= sorted(limits)[len(limits) // 2] <= 27


def test_it_searches_again_after_a_while_since_the_network_may_have_changed() -> None:
    server = Server(seconds=0.03, rate=100 * MIB)
    server.serve(300)
    assert server.concurrency.limit <= 18
    server.rate = 1e12
    server.serve(3000)
    assert server.concurrency.limit >= 60


def test_where_the_processor_is_short_fewer_requests_do_as_well() -> None:
    server = Server(seconds=0.001, rate=1e12, size=16 * MIB, cpu=0.02)
    limits = server.serve(500)
    assert limits.index(2) < 10
    assert sorted(limits)[len(limits) // 2] == 2


def test_a_busy_processor_alone_is_no_reason_for_fewer() -> None:
    server = Server(seconds=0.2, rate=1e12, size=16 * MIB, cpu=0.015)  # 13 at a time fill the processor
    limits = server.serve(500)
    assert 8 <= sorted(limits)[len(limits) // 2] <= 18
    assert limits.count(4) <= len(limits) // 20


def test_fewer_requests_are_not_kept_when_throughput_falls() -> None:
    server = Server(seconds=0.1, rate=1e12, size=16 * MIB, cpu=0.02)  # 5 at a time fill the processor
    limits = server.serve(500)
    assert 4 <= sorted(limits)[len(limits) // 2] <= 8


def test_what_each_search_loses_does_not_add_up() -> None:
    server = Server(seconds=0.001, rate=1e12, size=16 * MIB, cpu=0.02)
    server.seconds_more = lambda together: {8: 0.0, 4: 0.0072, 2: 0.0072}.get(together, 0.0)  # 8 % less at 4, 16 % at 2
    limits = server.serve(3000)
    assert min(limits[500:]) >= 4


def test_small_requests_begin_with_as_many_as_ever_after_large_ones() -> None:
    server = Server(seconds=0.001, rate=1e12, size=16 * MIB, cpu=0.02)
    assert server.serve(100)[-1] == 2
    server.size, server.seconds, server.cpu_of_each = 64 << 10, 0.03, 0.0004
    assert max(server.serve(10)) >= 8
    assert server.serve(400)[-1] >= 60


def test_a_few_small_requests_between_the_parts_of_large_files_change_little() -> None:
    server = Server(seconds=0.001, rate=1e12, size=16 * MIB, cpu=0.02)
    server.serve(100)
    for _ in range(20):
        server.size = 1000
        server.serve(2)
        server.size = 16 * MIB
        server.serve(20)
    limits = server.limits[100:]
    assert max(limits) <= 8
    assert limits.count(2) > len(limits) / 2


def test_after_a_long_pause_the_search_begins_anew() -> None:
    server = Server(seconds=0.001, rate=1e12, size=16 * MIB, cpu=0.02)
    server.serve(100)
    server.now += 60
    server.seconds, server.cpu_of_each = 0.2, 0.0
    limits = server.serve(30)[100:]
    assert limits[0] == 8
    assert limits[-1] >= 20


def test_time_without_requests_is_not_measured() -> None:
    server = Server(seconds=0.1, rate=1e12, size=16 * MIB, cpu=0.012)  # 8 at a time fill the processor
    server.now += 0.29
    server.cpu += 0.29
    limits = server.serve(30)
    assert limits.count(4) <= 3, "half as many were not taken for as good as eight that had hardly begun"


def test_a_refusal_while_fewer_are_tried_halves_what_was_good() -> None:
    server = Server(seconds=0.001, rate=1e12, size=16 * MIB, cpu=0.02)
    while server.serve(1)[-1] == 8:
        pass
    server.refuses_from = 3
    assert server.serve(1)[-1] == 4


def test_small_requests_that_wait_for_nothing_but_the_processor_are_few_at_a_time() -> None:
    server = Server(seconds=0.0001, rate=1e12, size=64 << 10, cpu=0.0004)
    assert set(server.serve(1000)[8:]) == {2}


def test_small_requests_that_wait_for_the_network_are_many_at_a_time() -> None:
    server = Server(seconds=0.03, rate=1e12, size=64 << 10, cpu=0.0004)
    assert server.serve(400)[-1] >= 60


def test_the_limit_of_small_requests_does_not_hold_for_large_ones() -> None:
    server = Server(seconds=0.0001, rate=1e12, size=64 << 10, cpu=0.0004)
    server.serve(100)
    server.size, server.seconds = 16 * MIB, 0.02
    assert server.serve(1)[-1] == 8


def test_after_a_pause_small_requests_are_measured_again() -> None:
    server = Server(seconds=0.0001, rate=1e12, size=64 << 10, cpu=0.0004)
    assert server.serve(100)[-1] == 2
    server.now += 10
    server.cpu += 10  # of something else
    server.seconds = 0.03
    assert server.serve(400)[-1] >= 60


def test_a_server_that_asks_for_less_gets_less_at_once() -> None:
    server = Server(seconds=0.03, rate=1e12, size=64 << 10)
    server.serve(400)
    server.refuses_from = 16
    limits = server.serve(200)[400:]
    assert limits[0] <= 32
    assert max(limits[1:20]) <= 16


def test_a_server_that_no_longer_asks_for_less_gets_more_again_after_a_while() -> None:
    server = Server(seconds=0.03, rate=1e12, size=64 << 10, refuses_from=16)
    assert server.serve(400)[-1] <= 16
    server.refuses_from = 1000
    assert server.serve(600)[-1] >= 60


def test_requests_that_were_under_way_together_are_one_refusal() -> None:
    concurrency = Concurrency()
    for _ in range(8):
        concurrency.began()
    for _ in range(8):
        concurrency.ended(0, refused=True)
    assert concurrency.limit == 4


def test_it_never_falls_below_its_least() -> None:
    limits = Server(seconds=0.03, rate=1e12, refuses_from=0).serve(50)
    assert limits[-1] == min(limits) == 2


def test_below_the_limit_nothing_is_tried() -> None:
    server = Server(seconds=0.03, rate=1e12)
    for _ in range(500):
        server.concurrency.began()
        server.now += 0.03
        server.concurrency.ended(MIB)
    assert server.concurrency.limit == 8


@pytest.mark.parametrize("size", [0, 64 << 10, 16 * MIB])
def test_small_and_large_requests_alike(size: int) -> None:
    server = Server(seconds=0.5, rate=1e15, size=size)
    assert server.serve(200)[-1] >= 60
