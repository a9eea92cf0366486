"""The page of results: how it was measured, the ratios with what misses its bar, every table."""

from pathlib import Path

from benchmarks.comparison import Comparison, Entry, Measured
from benchmarks.contestants import Contestant, Kind
from benchmarks.table import as_markdown
from benchmarks.workloads import Workload

GIB = 1 << 30
ABOUT = {
    "date": "2026-11-21", "cores": 2, "memory_gib": 24, "system": "6.18", "python": "3.11", "size": "full", "rounds": 3,
}  # fmt: skip


def entry(name: str, kind: Kind, wall: float, *, step: str = "up") -> Entry:
    contestant = Contestant(name, kind, lambda job: [], lambda job: [], name)
    return Entry(contestant, [Measured(step, wall, wall / 4, 50.0, GIB, 0, {"PutObject": 3}, 0.0, GIB)])


def workload(name: str, *steps: str) -> Workload:
    def build(directory: Path, divisor: int) -> None: ...

    return Workload(name, f"the {name} one", build, steps)


def test_a_page_has_the_ratios_and_marks_what_misses_its_bar() -> None:
    entries = [
        entry("holdfast", Kind.HOLDFAST, 1.0),
        entry("s5cmd", Kind.TOOL, 2.0),
        entry("opendal", Kind.LIBRARY, 0.5),
    ]
    page = as_markdown([Comparison(workload("large", "up"), False, 1, GIB, entries)], ABOUT)
    row = "| the large one, upload, HTTP | 0.50 × s5cmd | 0.50 × s5cmd | **2.00 × opendal** | **2.00 × opendal** | 50 |"
    assert row in page.splitlines()
    assert "2026-11-21, 2 cores, 24 GiB, Linux 6.18, Python 3.11; size full, 3 rounds." in page
    assert "| s5cmd | tool | 2.00 |" in page


def test_second_uploads_have_a_table_of_their_bars() -> None:
    entries = [entry("holdfast", Kind.HOLDFAST, 1.0, step="again")]
    page = as_markdown([Comparison(workload("unchanged", "again"), False, 1, GIB, entries)], ABOUT)
    assert "| the unchanged one | holdfast | requests | 3.00 | 6 |" in page.splitlines()
    assert "| the unchanged one | holdfast | bytes sent | **1,048,576.00 KiB** | 64 |" in page.splitlines()
