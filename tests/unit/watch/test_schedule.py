"""When the watch scans again, tries again after a failure, and commits."""

from __future__ import annotations

import pytest

from holdfast.watch import schedule as times
from holdfast.watch.schedule import Schedule


class Clock:
    """A monotonic clock that moves when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def schedule(clock: Clock) -> Schedule:
    return Schedule(clock)


def test_the_first_scan_is_due_at_once(schedule: Schedule) -> None:
    assert schedule.seconds_to_scan(triggered=False) <= 0


def test_an_event_triggers_a_scan_but_none_before_a_pause_that_the_last_scan_has_earned(
    schedule: Schedule, clock: Clock
) -> None:
    schedule.scanned(0.001, blind=False)
    assert schedule.seconds_to_scan(triggered=True) == pytest.approx(0.1)
    assert schedule.seconds_to_scan(triggered=False) == times.SAFETY_SCAN
    schedule.scanned(1.0, blind=False)
    assert schedule.seconds_to_scan(triggered=True) == pytest.approx(1 / times.BUSY_SHARE)
    clock.now += 1 / times.BUSY_SHARE
    assert schedule.seconds_to_scan(triggered=True) <= 0 < schedule.seconds_to_scan(triggered=False)


def test_the_safety_scan_follows_what_a_scan_costs(schedule: Schedule) -> None:
    def pause(cost: float, *, blind: bool) -> float:
        schedule.scanned(cost, blind=blind)
        return schedule.seconds_to_scan(triggered=False)

    assert pause(0.001, blind=False) == times.SAFETY_SCAN
    assert pause(0.06, blind=False) == pytest.approx(0.06 / times.SAFETY_SHARE)
    assert pause(60, blind=False) == times.LONGEST_SAFETY_SCAN
    assert pause(0.001, blind=True) == times.BLIND_SCAN
    assert pause(1, blind=True) == pytest.approx(1 / times.BUSY_SHARE)


def test_a_file_that_may_settle_is_looked_at_then_and_an_open_one_after_the_commit_delay(schedule: Schedule) -> None:
    schedule.scanned(0.001, blind=False)
    schedule.scan_within(0.3)
    assert schedule.seconds_to_scan(triggered=False) == pytest.approx(0.3)
    schedule.scan_within(float("inf"))
    assert schedule.seconds_to_scan(triggered=False) == times.COMMIT_DELAY
    schedule.scan_within(0.0)
    assert schedule.seconds_to_scan(triggered=False) == pytest.approx(0.1)


def test_after_failures_no_event_triggers_a_scan_before_a_pause_that_grows_to_a_minute(
    schedule: Schedule, clock: Clock
) -> None:
    schedule.scanned(0.001, blind=False)
    assert [schedule.back_off() for _ in range(7)] == [2, 4, 8, 16, 32, 60, 60]
    assert schedule.seconds_to_scan(triggered=True) == schedule.seconds_to_scan(triggered=False) == 60
    clock.now += 60
    assert schedule.seconds_to_scan(triggered=False) <= 0
    assert schedule.failures == 7
    schedule.committed()
    assert schedule.failures == 0
    assert schedule.back_off() == 2


def test_a_failure_does_not_shorten_the_pause_after_a_scan_that_cost_much(schedule: Schedule) -> None:
    schedule.scanned(10.0, blind=False)
    assert schedule.back_off() == 2
    assert schedule.seconds_to_scan(triggered=True) == pytest.approx(10 / times.BUSY_SHARE)


def test_a_commit_waits_for_what_is_being_written_and_not_for_ever(schedule: Schedule, clock: Clock) -> None:
    assert not schedule.is_commit_due(settled=False, unsettled=True)
    assert schedule.is_commit_due(settled=True, unsettled=False)
    schedule.committed()
    assert not schedule.is_commit_due(settled=True, unsettled=True)
    clock.now += times.COMMIT_DELAY - 0.1
    assert not schedule.is_commit_due(settled=True, unsettled=True)
    clock.now += 0.1
    assert schedule.is_commit_due(settled=True, unsettled=True)


def test_the_wait_for_what_is_being_written_begins_anew_after_a_commit_and_when_nothing_is_settled_any_more(
    schedule: Schedule, clock: Clock
) -> None:
    assert not schedule.is_commit_due(settled=True, unsettled=True)
    clock.now += times.COMMIT_DELAY
    schedule.committed()
    assert not schedule.is_commit_due(settled=True, unsettled=True)
    clock.now += times.COMMIT_DELAY
    assert not schedule.is_commit_due(settled=False, unsettled=True)
    assert not schedule.is_commit_due(settled=True, unsettled=True)
