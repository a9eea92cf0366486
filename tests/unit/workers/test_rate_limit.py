"""A limit is parsed with its unit, and holds for all threads together."""

from __future__ import annotations

import pytest

from holdfast.errors import ConfigError
from holdfast.workers import rate_limit
from holdfast.workers.rate_limit import RateLimit


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("50MB/s", 50e6),
        ("50 MB", 50e6),
        ("1.5GB/s", 1.5e9),
        ("20MiB/s", 20 * 2**20),
        ("64kB", 64e3),
        ("1000000", 1e6),
        (" 1000000/s ", 1e6),
    ],
)
def test_a_limit_is_bytes_per_second_with_or_without_a_unit(text: str, rate: float) -> None:
    assert rate_limit.parse(text, name="LIMIT") == rate


@pytest.mark.parametrize("text", ["fast", "50Mb/s", "50 M", "-1", "", "1e9", "50MB/h", "nan"])
def test_a_text_that_is_not_a_rate_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="LIMIT must be bytes per second, such as 50MB/s"):
        rate_limit.parse(text, name="LIMIT")


def test_a_limit_under_which_requests_would_time_out_is_refused() -> None:
    with pytest.raises(ConfigError, match="LIMIT must be at least 64kB/s"):
        rate_limit.parse("10kB/s", name="LIMIT")


def test_the_rate_holds_for_steps_of_any_size() -> None:
    clock = Clock()
    limit = RateLimit(1e6, clock=clock)
    sent = 0
    while clock.now < 1010:
        clock.now += limit.take(7777)
        sent += 7777
    assert 10e6 <= sent <= 10e6 + 0.1e6 + 2 * 7777  # a tenth of a second may be made up for


def test_steps_that_are_reserved_together_wait_for_one_another() -> None:
    limit = RateLimit(1e6, clock=Clock())
    assert [limit.take(100_000) for _ in range(3)] == pytest.approx([0, 0.1, 0.2])


def test_an_idle_minute_is_no_credit_for_a_burst() -> None:
    clock = Clock()
    limit = RateLimit(1e6, clock=clock)
    clock.now += 60
    waits = [limit.take(100_000) for _ in range(3)]
    assert waits == pytest.approx([0, 0, 0.1])


@pytest.mark.parametrize("rate", [64e3, 1e6, 1e9, 1e11])
def test_at_any_rate_each_of_64_threads_gets_a_step_before_the_server_times_out(rate: float) -> None:
    limit = RateLimit(rate, clock=Clock())
    waits = [limit.take(limit.step) for _ in range(64)]
    assert limit.step >= 4096
    assert waits[-1] < 10
