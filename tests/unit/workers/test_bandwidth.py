"""Throughput and commits are measured, and the next ones estimated from that."""

from __future__ import annotations

import pytest

from holdfast.workers.bandwidth import USUAL_COMMIT, USUAL_RATE, Bandwidth

MB = 1_000_000


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_before_a_transfer_the_usual_rate_is_expected(clock: Clock) -> None:
    bandwidth = Bandwidth(clock)
    assert bandwidth.measured is None
    assert bandwidth.seconds_for(int(3 * USUAL_RATE)) == pytest.approx(3)
    assert bandwidth.commit_seconds == USUAL_COMMIT


def test_the_rate_of_the_last_transfer_is_expected_of_the_next(clock: Clock) -> None:
    bandwidth = Bandwidth(clock)
    with bandwidth.sending():
        bandwidth.count(10 * MB)
        clock.now += 5
    clock.now += 1000
    assert bandwidth.rate == pytest.approx(2 * MB)
    assert bandwidth.seconds_for(8 * MB) == pytest.approx(4)


def test_too_few_bytes_do_not_measure_the_rate(clock: Clock) -> None:
    bandwidth = Bandwidth(clock)
    with bandwidth.sending():
        bandwidth.count(1000)
        clock.now += 1
    assert bandwidth.measured is None


def test_a_slower_transfer_outweighs_the_last_rate_more_and_more(clock: Clock) -> None:
    bandwidth = Bandwidth(clock)
    with bandwidth.sending():
        bandwidth.count(20 * MB)
        clock.now += 2
    with bandwidth.sending():
        assert bandwidth.rate == pytest.approx(10 * MB)
        rates = []
        for _ in range(4):
            clock.now += 0.5
            bandwidth.count(MB)
            rates.append(bandwidth.rate)
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 7 * MB
    assert rates[-1] == pytest.approx(2 * MB)


def test_bytes_that_are_being_sent_count_before_they_have_arrived_and_not_twice(clock: Clock) -> None:
    bandwidth = Bandwidth(clock)
    with bandwidth.sending():
        bandwidth.leaving(4 * MB)
        clock.now += 2
        assert bandwidth.sent == 4 * MB
        assert bandwidth.rate == pytest.approx(2 * MB)
        bandwidth.count(4 * MB)
    assert bandwidth.sent == 4 * MB


def test_the_time_reserved_for_a_commit_follows_the_last_one(clock: Clock) -> None:
    bandwidth = Bandwidth(clock)
    with bandwidth.committing():
        clock.now += 0.5
    assert bandwidth.commit_seconds == pytest.approx(1.5)
    with bandwidth.committing():
        clock.now += 0.001
    assert bandwidth.commit_seconds == pytest.approx(0.3)
    with bandwidth.committing():
        clock.now += 60
    assert bandwidth.commit_seconds == pytest.approx(5)


def test_a_rate_measured_under_a_limit_is_forgotten_with_it(clock: Clock) -> None:
    bandwidth = Bandwidth(clock)
    with bandwidth.sending():
        bandwidth.count(2 * MB)
        clock.now += 20
    bandwidth.forget()
    assert bandwidth.rate == USUAL_RATE
