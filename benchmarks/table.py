"""The table, for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.bars import GIB, MIB, Bar, bars, middle
from benchmarks.comparison import Comparison
from benchmarks.contestants import Kind

HEAD = ("", "what", "wall s", "slowest", "CPU s/GiB", "peak MiB", "sent MiB", "received MiB", "requests")
TITLES = {"up": "upload", "down": "download", "again": "second upload"}


def rows(compared: Comparison, step: str) -> list[tuple[str, ...]]:
    """Return a row for each contestant, the fastest first, those that could not last."""
    found: list[tuple[float, tuple[str, ...]]] = []
    for entry in compared.entries:
        name, kind = entry.contestant.name, str(entry.contestant.kind)
        ours = middle(entry, step)
        if entry.problem or ours is None:
            found.append((float("inf"), (name, kind, f"missing: {entry.problem}")))
            continue
        figures = (
            f"{ours.wall:.2f}",
            f"{ours.slowest:.2f}",
            f"{ours.cpu * GIB / compared.size:.2f}",
            f"{ours.peak_mib:.0f}",
            f"{ours.received / MIB:,.2f}",
            f"{ours.sent / MIB:,.2f}",
            f"{ours.requests:,.0f}",
        )
        found.append((ours.wall, (name, kind, *figures)))
    return [row for _, row in sorted(found)]


def _parts(comparisons: Sequence[Comparison]) -> Iterator[tuple[str, list[tuple[str, ...]], list[str]]]:
    for compared, step in _steps(comparisons):
        title = f"{_title(compared, step)} ({compared.size / MIB:,.0f} MiB)"
        yield title, rows(compared, step), [str(bar) for bar in bars(compared, step)]


def as_text(comparisons: Sequence[Comparison]) -> str:
    """Return all tables for a terminal."""
    lines = []
    for title, table, said in _parts(comparisons):
        lines += ["", title, _line(HEAD), *map(_line, table), *(f"  {bar}" for bar in said)]
    return "\n".join(lines)


def _line(row: Sequence[str]) -> str:
    first = f"  {row[0]:<20}{row[1]:<10}"
    return first + (row[2] if len(row) == 3 else "".join(f"{cell:>13}" for cell in row[2:]))


RATIOS = ("what is moved", "wall ÷ tool", "CPU ÷ tool", "wall ÷ library", "CPU ÷ library", "peak MiB")
BARS_OF_SECONDS = ("second upload", "who", "figure", "value", "bar")


def as_markdown(comparisons: Sequence[Comparison], about: Mapping[str, Any]) -> str:
    """Return a page: how it was measured, the ratios, then every table with its bars.

    Args:
        comparisons: what was measured.
        about: `date`, `cores`, `memory_gib`, `system`, `python`, `size`, `rounds`.
    """
    lines = ["# holdfast beside other tools", "", "<!-- written by: python -m benchmarks --markdown FILE -->"]
    lines += [
        f"{about['date']}, {about['cores']} cores, {about['memory_gib']} GiB, Linux {about['system']}, Python "
        f"{about['python']}; size {about['size']}, {about['rounds']} rounds.",
        "[Performance](../../docs/performance.md) says how it is measured and what the columns mean.",
        *("", "## Ratios"),
        "holdfast's median ÷ that of the best tool and of the best library in that workload. **Bold** misses its bar.",
        *("", *_ratios(comparisons), "", *_second_uploads(comparisons)),
    ]
    for title, table, said in _parts(comparisons):
        lines += ["", f"## {title}", *_markdown(HEAD, table, numbers_from=2), "", *(f"- {bar}" for bar in said)]
    return "\n".join(lines) + "\n"


def _ratios(comparisons: Sequence[Comparison]) -> list[str]:
    rows: list[tuple[str, ...]] = []
    for compared, step in _steps(comparisons):
        found = [bar for bar in bars(compared, step) if bar.who == "holdfast"]
        if step != "again" and found:
            peers = [bar for kind in (Kind.TOOL, Kind.LIBRARY) for bar in found if bar.against is kind]
            peak = [f"{bar.value:.0f}" for bar in found if bar.unit == "MiB"]
            rows.append((_title(compared, step), *map(_ratio, peers), *peak))
    return _markdown(RATIOS, rows)


def _second_uploads(comparisons: Sequence[Comparison]) -> list[str]:
    rows = [
        (compared.workload.title, bar.who, bar.figure, _marked(bar, f"{bar.value:,.2f} {bar.unit}"), f"{bar.limit:g}")
        for compared, step in _steps(comparisons)
        if step == "again"
        for bar in bars(compared, step)
    ]
    return _markdown(BARS_OF_SECONDS, rows)


def _steps(comparisons: Sequence[Comparison]) -> Iterator[tuple[Comparison, str]]:
    return ((compared, step) for compared in comparisons for step in compared.workload.steps)


def _title(compared: Comparison, step: str) -> str:
    return f"{compared.workload.title}, {TITLES[step]}, {'TLS' if compared.tls else 'HTTP'}"


def _ratio(bar: Bar) -> str:
    return _marked(bar, f"{bar.value:.2f} × {bar.figure.rpartition(' ')[2]}")


def _marked(bar: Bar, text: str) -> str:
    return text.strip() if bar.reached else f"**{text.strip()}**"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers_from: int = 9) -> list[str]:
    """Return a table in Markdown; columns from `numbers_from` on are set to the right."""
    ruler = "".join("---:|" if column >= numbers_from else "---|" for column in range(len(head)))
    cells = ([*row, *[""] * (len(head) - len(row))] for row in rows)
    return [f"| {' | '.join(head)} |", f"|{ruler}", *(f"| {' | '.join(row)} |" for row in cells)]
