"""The deadline divides the time between the script and the flush."""

import pytest

from holdfast_entrypoint.process.deadline import Deadline


def test_the_flush_gets_what_it_needs_and_a_margin() -> None:
    deadline = Deadline.after(100, now=1000, flush=20)
    assert deadline.end == 1100
    assert deadline.stop_by == pytest.approx(1100 - 26)


@pytest.mark.parametrize(("flush", "kept"), [(0, 20), (1000, 60)])
def test_the_script_and_the_flush_both_get_some(flush: float, kept: float) -> None:
    assert Deadline.after(100, now=0, flush=flush).stop_by == pytest.approx(100 - kept)


def test_two_deadlines_are_kept_by_the_sooner_of_each() -> None:
    assert Deadline(50, 100).sooner(Deadline(60, 70)) == Deadline(50, 70)


def test_a_hurry_shortens_the_script_and_not_the_flush() -> None:
    assert Deadline(50, 100).hurried(10, 2) == Deadline(12, 100)
    assert Deadline(11, 100).hurried(10, 2) == Deadline(11, 100)


def test_time_left_is_never_negative() -> None:
    assert Deadline(1, 2).remaining(1.5) == 0.5
    assert Deadline(1, 2).remaining(5) == 0
