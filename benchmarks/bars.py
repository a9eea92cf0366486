"""The bars: what holdfast has to reach, and whether it does."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.comparison import Comparison, Entry
from benchmarks.contestants import Kind

GIB = 1 << 30
MIB = 1 << 20
# Most CPU per GiB against the best tool, by scheme and step.
_CPU_OF_TOOLS = {(False, "up"): 0.6, (False, "down"): 0.9, (True, "up"): 1.1, (True, "down"): 1.1}
MOST_MIB = 250.0


@dataclass(frozen=True, slots=True)
class Middle:
    """The medians of all rounds of one step; names and units as `Measured`."""

    wall: float
    slowest: float
    cpu: float
    peak_mib: float
    received: float
    sent: float
    requests: float
    changed: float


def middle(entry: Entry, step: str) -> Middle | None:
    """Return the medians of a step, None where there is no run of it."""
    runs = [run for run in entry.runs if run.step == step]
    if not runs:
        return None

    def of(values: Sequence[float]) -> float:
        return statistics.median(values)

    return Middle(
        of([run.wall for run in runs]),
        max(run.wall for run in runs),
        of([run.cpu for run in runs]),
        of([run.peak_mib for run in runs]),
        of([run.received for run in runs]),
        of([run.sent for run in runs]),
        of([sum(run.requests.values()) for run in runs]),
        of([run.changed for run in runs]),
    )


@dataclass(frozen=True, slots=True)
class Bar:
    """Something to reach.

    Attributes:
        who: whose value it is.
        figure: what is looked at.
        value: what it is.
        limit: the most that it may be.
        unit: of both.
        against: the kind of contestant that the value is a ratio to; None where it is none.
    """

    who: str
    figure: str
    value: float
    limit: float
    unit: str = "×"
    against: Kind | None = None

    @property
    def reached(self) -> bool:
        """Whether it is no more than that."""
        return self.value <= self.limit

    def __str__(self) -> str:
        verdict = "reached" if self.reached else "NOT reached"
        value, limit = (f"{number:,.2f} {self.unit}".strip() for number in (self.value, self.limit))
        return f"{verdict}: {self.who}, {self.figure}: {value}, the bar is {limit}"


def bars(compared: Comparison, step: str) -> Iterator[Bar]:
    """Yield every bar of one step that holdfast took part in."""
    others = {
        kind: {
            entry.contestant.name: found
            for entry in compared.entries
            if entry.contestant.kind is kind and not entry.problem and (found := middle(entry, step))
        }
        for kind in Kind
    }
    for entry in compared.entries:
        ours = middle(entry, step)
        if entry.contestant.kind is not Kind.HOLDFAST or ours is None:
            continue
        name = entry.contestant.name
        if step == "again":
            yield from _second(name, compared, entry, ours, others[Kind.TOOL])
        else:
            yield from _first(name, (compared.tls, step), ours, others[Kind.TOOL], others[Kind.LIBRARY])
        yield Bar(name, "peak of memory", ours.peak_mib, MOST_MIB, "MiB")


def _first(
    name: str, place: tuple[bool, str], ours: Middle, tools: dict[str, Middle], libraries: dict[str, Middle]
) -> Iterator[Bar]:
    peers = ((Kind.TOOL, tools, 1.0, _CPU_OF_TOOLS[place]), (Kind.LIBRARY, libraries, 1.1, 1.0))
    for kind, found, wall, cpu in peers:
        if found:
            fastest, leanest = min(found, key=lambda one: found[one].wall), min(found, key=lambda one: found[one].cpu)
            yield Bar(name, f"wall against {fastest}", ours.wall / found[fastest].wall, wall, against=kind)
            yield Bar(name, f"CPU against {leanest}", ours.cpu / found[leanest].cpu, cpu, against=kind)


def _second(name: str, compared: Comparison, entry: Entry, ours: Middle, tools: dict[str, Middle]) -> Iterator[Bar]:
    workload = compared.workload.name
    full = middle(entry, "first")
    if workload in ("rewrite", "lora-one-file") and full:
        yield Bar(name, "bytes sent against bytes changed, rounded to parts", ours.received / ours.changed, 2.0)
        yield Bar(name, "wall against its own full upload", ours.wall / full.wall, 0.4)
    if workload.startswith("lora") and tools:
        least = min(tools, key=lambda one: tools[one].received)
        yield Bar(name, f"bytes sent against {least}", ours.received / tools[least].received, 0.2)
    if workload == "unchanged":
        # Heads of requests and holdfast's own records, no content: 64 KiB is one of the files.
        yield Bar(name, "bytes sent", ours.received / 1024, 64.0, "KiB")
        yield Bar(name, "requests", ours.requests, 5 + -(-compared.files // 1000), "")
