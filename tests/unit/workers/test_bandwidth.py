"""What is measured of the way to the store, and what may be expected from it."""

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


def test_before_anything_was_sent_the_usual_is_expected(clock: Clock) -> None:
    bandwidth = Bandwidth(clock)
    assert bandwidth.measured is None
    assert bandwidth.seconds_for(int(3 * USUAL_RATE)) == pytest.approx(3)
    assert bandwidth.commit_seconds == USUAL_COMMIT


def test_what_the_last_transfer_did_is_expected_of_the_next(clock: Clock) -> None:
    bandwidth = Bandwidth(clock)
    with bandwidth.sending():
        bandwidth.count(10 * MB)
        clock.now += 5
    clock.now += 1000
    assert bandwidth.rate == pytest.approx(2 * MB)
    assert bandwidth.seconds_for(8 * MB) == pytest.approx(4)


def test_a_few_bytes_say_how_long_a_request_takes_and_nothing_of_the_rate(clock: Clock) -> None:
    bandwidth = Bandwidth(clock)
    with bandwidth.sending():
        bandwidth.count(1000)
        clock.now += 1
    assert bandwidth.measured is None


def test_a_transfer_that_is_slower_than_the_last_one_is_believed_more_and_more(clock: Clock) -> None:
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


def test_bytes_that_leave_count_before_they_have_arrived_and_not_twice(clock: Clock) -> None:
    bandwidth = Bandwidth(clock)
    with bandwidth.sending():
        bandwidth.leaving(4 * MB)
        clock.now += 2
        assert bandwidth.sent == 4 * MB
        assert bandwidth.rate == pytest.approx(2 * MB)
        bandwidth.count(4 * MB)
    assert bandwidth.sent == 4 * MB


def test_time_is_kept_for_a_commit_by_what_the_last_one_took(clock: Clock) -> None:
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


def test_what_was_measured_under_a_limit_is_forgotten_with_it(clock: Clock) -> None:
    bandwidth = Bandwidth(clock)
    with bandwidth.sending():
        bandwidth.count(2 * MB)
        clock.now += 20
    bandwidth.forget()
    assert bandwidth.rate == USUAL_RATE
