"""The demo fails unless the second attempt really resumed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from examples.demo.attempt import Outcome
from examples.demo.verdict import problems, table


def outcome(number: int, exit_code: int, rounds: Sequence[int], **report: object) -> Outcome:
    return Outcome(number, exit_code, rounds, report)


FIRST = outcome(1, 143, range(1, 17), notice="spot", bytes_uploaded=639_221, bytes_restored=0, resumed_from=None)
SECOND = outcome(2, 0, range(17, 41), bytes_uploaded=1_930_172, bytes_restored=567_146, resumed_from="round-00016.ubj")


def changed(of: Outcome, **report: object) -> Outcome:
    fields: Mapping[str, Any] = {**of.report, **report}
    return replace(of, report=fields)


def test_an_interruption_and_a_resume_are_as_they_should_be() -> None:
    assert problems(FIRST, SECOND, rounds=40) == []


@pytest.mark.parametrize(
    ("first", "second", "sentence"),
    [
        (replace(FIRST, exit_code=75), SECOND, "exit code 75 instead of 143"),
        (changed(FIRST, notice="signal"), SECOND, "ended by 'signal'"),
        (changed(FIRST, bytes_uploaded=0), SECOND, "attempt 1 uploaded nothing"),
        (replace(FIRST, rounds=range(1, 41)), SECOND, "not interrupted in the middle"),
        (replace(FIRST, rounds=[]), SECOND, "not interrupted in the middle"),
        (FIRST, replace(SECOND, exit_code=1), "exit code 1 instead of 0"),
        (FIRST, changed(SECOND, bytes_restored=0), "restored nothing"),
        (FIRST, changed(SECOND, resumed_from=None), "restored nothing"),
        (FIRST, replace(SECOND, report={}), "restored nothing"),
        (FIRST, replace(SECOND, rounds=range(1, 41)), "began again with round 1"),
        (FIRST, replace(SECOND, rounds=range(11, 41)), "attempt 2 began with round 11"),
        (FIRST, replace(SECOND, rounds=range(17, 30)), "stopped after round 29 of 40"),
        (FIRST, replace(SECOND, rounds=[]), "trained no round"),
    ],
)
def test_each_broken_promise_is_named(first: Outcome, second: Outcome, sentence: str) -> None:
    assert sentence in "; ".join(problems(first, second, rounds=40))


def test_the_table_is_aligned_and_shows_what_is_not_known() -> None:
    first = changed(FIRST, seconds_notice_to_durable=0.241)
    assert table([first, SECOND, Outcome(3, 70, [])]).splitlines() == [
        "attempt  rounds trained  resumed from     restored  uploaded  notice to durable  exit code",
        "1        1 to 16         fresh start          0 kB    639 kB             0.24 s        143",
        "2        17 to 40        round-00016.ubj    567 kB  1,930 kB                             0",
        "3        none            fresh start       unknown   unknown                            70",
    ]
