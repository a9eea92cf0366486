"""The table, for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.bars import GIB, MIB, bars, middle
from benchmarks.comparison import Comparison

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
    for compared in comparisons:
        for step in compared.workload.steps:
            scheme = "TLS" if compared.tls else "HTTP"
            title = f"{compared.workload.title}, {TITLES[step]}, {scheme} ({compared.size / MIB:,.0f} MiB)"
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


def as_markdown(comparisons: Sequence[Comparison]) -> str:
    """Return all tables for a page."""
    lines = []
    for title, table, said in _parts(comparisons):
        lines += ["", f"### {title}", "| " + " | ".join(HEAD) + " |", "|---|---|" + "---:|" * (len(HEAD) - 2)]
        lines += ["| " + " | ".join([*row, *[""] * (len(HEAD) - len(row))]) + " |" for row in table]
        lines += ["", *(f"- {bar}" for bar in said)]
    return "\n".join(lines).lstrip() + "\n"
