"""The pages form one text: links lead somewhere, every page is reached, prose is wrapped, nothing is unfinished."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.pages import PAGES, ROOT
from tests.test_architecture import ENTRYPOINT, TOOLKIT

LINK = re.compile(r"\[(?:[^\]\[]|\[[^\]]*\])*\]\((?!https?://)(?P<target>[^)\s]*)\)")
CODE = re.compile(r"`[^`\n]*`")
HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)
FENCED = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
WIDTH = 120
GENERATED = {ROOT / "docs/scale.md", ROOT / "benchmarks/results/compared.md"}
UNFINISHED = re.compile(r"@@|\b(?:TODO|FIXME|TBD|XXX)\b|\?\?\?|lorem ipsum", re.IGNORECASE)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """Return a page without its fenced blocks, line by line as it was."""
    return FENCED.sub(lambda block: "\n" * block[0].count("\n"), page.read_text())


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    found: set[str] = set()
    for heading in HEADING.findall(prose(page)):
        text = re.sub(r"[^\w\- ]", "", LINK.sub(lambda link: link[0], heading).lower()).replace(" ", "-")
        found.add(text if text not in found else f"{text}-1")
    return found


def links(page: Path) -> Iterator[tuple[str, Path, str]]:
    """Yield each relative link of a page as it is written, the file that it names, and its anchor."""
    for link in LINK.finditer(CODE.sub("", prose(page))):
        path, _, anchor = link["target"].partition("#")
        yield link["target"], (page.parent / path).resolve() if path else page, anchor


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = [
        written
        for written, target, anchor in links(page)
        if not target.exists() or (anchor and anchor not in anchors(target))
    ]
    assert broken == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached, ahead = set[Path](), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page not in reached:
            reached.add(page)
            ahead += [target for _, target, _ in links(page) if target.suffix == ".md"]
    assert {name(page) for page in PAGES} - {name(page) for page in reached} == set()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_is_named_by_a_link_and_not_in_backticks(page: Path) -> None:
    named = re.findall(r"`([\w./-]+\.md)`", LINK.sub("", prose(page)))
    assert [target for target in named if (ROOT / target).is_file() or (page.parent / target).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_nothing_on_a_page_is_left_unfinished(page: Path) -> None:
    assert UNFINISHED.findall(page.read_text()) == []


@pytest.mark.parametrize("page", sorted(set(PAGES) - GENERATED), ids=name)
def test_prose_is_wrapped(page: Path) -> None:
    lines = enumerate(prose(page).splitlines(), start=1)
    assert [number for number, line in lines if len(line) > WIDTH and not line.lstrip().startswith("|")] == []


def test_the_page_of_the_architecture_has_every_room() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    rooms = {room for floor in (*TOOLKIT, *ENTRYPOINT) for room in floor} - {"__main__"}
    assert {room for room in rooms if not re.search(rf"[`\[ ]{room}(?:\.py)?[`\],]", page)} == set()


def test_the_ratios_on_the_page_of_performance_are_those_that_the_benchmark_wrote() -> None:
    written = (ROOT / "benchmarks/results/compared.md").read_text().splitlines()
    shown = [line for line in (ROOT / "docs/performance.md").read_text().splitlines() if " × " in line]
    ratios = [line for line in shown if re.match(r"\| .*(?:, HTTP|, TLS|\| holdfast)", line)]
    assert len(ratios) > 10
    assert set(ratios) <= set(written)
