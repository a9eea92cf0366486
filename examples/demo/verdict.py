"""The demo's verdict: whether the second attempt really resumed, and the table of both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from examples.demo.attempt import Outcome

_HEADINGS = ("attempt", "rounds trained", "resumed from", "restored", "uploaded", "notice to durable", "exit code")
_NUMBERS = {"restored", "uploaded", "notice to durable", "exit code"}


def problems(first: Outcome, second: Outcome, *, rounds: int) -> list[str]:
    """Return what is not as it should be, one sentence each; nothing when holdfast kept its word.

    Args:
        first: the attempt that was interrupted.
        second: the attempt after it, on an empty machine.
        rounds: how many the finished model has.
    """
    return [*_problems_of_first(first, rounds), *_problems_of_second(first, second, rounds)]


def _problems_of_first(first: Outcome, rounds: int) -> Iterator[str]:
    if first.exit_code != 143:
        yield f"attempt 1 ended with exit code {first.exit_code} instead of 143 (interrupted, everything stored)"
    if first.report.get("notice") != "spot":
        yield f"attempt 1 was ended by {first.report.get('notice')!r} and not by the spot notice"
    if not first.rounds or first.rounds[-1] >= rounds:
        yield f"attempt 1 was not interrupted in the middle of its {rounds} rounds"
    if not first.report.get("bytes_uploaded"):
        yield "attempt 1 uploaded nothing"


def _problems_of_second(first: Outcome, second: Outcome, rounds: int) -> Iterator[str]:
    if second.exit_code != 0:
        yield f"attempt 2 ended with exit code {second.exit_code} instead of 0"
    if not second.report.get("bytes_restored") or not second.report.get("resumed_from"):
        yield "attempt 2 restored nothing"
    if not second.rounds:
        yield "attempt 2 trained no round"
        return
    if second.rounds[0] == 1:
        yield "attempt 2 began again with round 1"
    if first.rounds and second.rounds[0] != first.rounds[-1] + 1:
        yield (
            f"attempt 1 ended after round {first.rounds[-1]} and said that all of it was stored, "
            f"yet attempt 2 began with round {second.rounds[0]}"
        )
    if second.rounds[-1] != rounds:
        yield f"attempt 2 stopped after round {second.rounds[-1]} of {rounds}"


def table(outcomes: Sequence[Outcome]) -> str:
    """Return a line for each attempt, aligned."""
    rows = [_HEADINGS, *(_row(outcome) for outcome in outcomes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if heading in _NUMBERS else cell.ljust(width)
            for cell, width, heading in zip(row, widths, _HEADINGS, strict=True)
        ).rstrip()
        for row in rows
    )


def _row(outcome: Outcome) -> tuple[str, ...]:
    report = outcome.report
    seconds = report.get("seconds_notice_to_durable")
    return (
        str(outcome.number),
        f"{outcome.rounds[0]} to {outcome.rounds[-1]}" if outcome.rounds else "none",
        str(report.get("resumed_from") or "fresh start"),
        _size(report.get("bytes_restored")),
        _size(report.get("bytes_uploaded")),
        "" if seconds is None else f"{seconds:.2f} s",
        str(outcome.exit_code),
    )


def _size(count: object) -> str:
    return f"{count / 1000:,.0f} kB" if isinstance(count, int | float) else "unknown"
