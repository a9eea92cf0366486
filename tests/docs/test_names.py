"""What the pages name is what the code has: variables, exit codes, stop times, lines of the log, permissions."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest
from tests.docs.pages import PAGES, ROOT, the_block

from holdfast_entrypoint import exit_codes
from holdfast_entrypoint.cli import help_text
from holdfast_entrypoint.config import platforms
from holdfast_entrypoint.config.platforms import Platform

CODE = sorted([*ROOT.glob("toolkit/**/*.py"), *ROOT.glob("entrypoint/**/*.py")])
AROUND = sorted([*ROOT.glob("images/*"), *ROOT.glob("tests/**/*.py"), ROOT / "Makefile"])
VARIABLE = re.compile(r"\b(?:HOLDFAST|CHECKPOINT|OUTPUT|SAGEMAKER|SM|S3|AWS)_[A-Z0-9_]*[A-Z0-9](?:_\*)?")
PLACES = {
    "`docker run`": Platform.LOCAL,
    "EC2": Platform.EC2,
    "ECS on EC2": Platform.ECS,
    "ECS on Fargate Spot": Platform.ECS,
    "AWS Batch on EC2": Platform.BATCH,
    "Kubernetes": Platform.KUBERNETES,
    "SageMaker": Platform.SAGEMAKER,
}


def variables(page: Path) -> set[str]:
    return set(VARIABLE.findall(page.read_text()))


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of each row of the tables whose first column is headed so."""
    tables = re.findall(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", (ROOT / page).read_text(), re.MULTILINE)
    assert tables, f"{page} has no table of {heading}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for table in tables for line in table.splitlines()]


def quoted() -> list[str]:
    """Return every line of the log that a page explains: code in a column of what the log says, or with an ellipsis."""
    cells = [cells[0] for cells in rows("docs/troubleshooting.md", "the log says")]
    cells += [cells[2] for cells in rows("docs/faults.md", "fault")]
    watched = (ROOT / "docs/operations.md").read_text().partition("## What to watch")[2].partition("\n## ")[0]
    cells += re.findall(r"`[^`]*…[^`]*`", watched.replace("\n", " "))
    return sorted({line for cell in cells for line in re.findall(r"`([^`]+)`", cell)})


@cache
def templates() -> list[str]:
    """Return every text of the code, with NUL where a value goes in."""
    found = []
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(v.value) if isinstance(v, ast.Constant) else "\0" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_variable_that_a_page_names_is_one_that_something_here_reads_or_sets(page: Path) -> None:
    sources = [path for path in [*CODE, *AROUND] if path.is_file() and not path.is_relative_to(ROOT / "tests/docs")]
    texts = "\n".join(path.read_text() for path in sources)
    known = set(re.findall(r"\b[A-Z][A-Z0-9_]*", texts))
    unknown = {
        name
        for name in variables(page)
        if not (any(other.startswith(name[:-1]) for other in known) if name.endswith("*") else name in known)
    }
    assert not unknown


def test_every_variable_of_ours_is_explained_on_the_pages_for_users() -> None:
    ours = {name for path in CODE for name in variables(path) if name.startswith("HOLDFAST_")}
    explained = {
        name
        for page, heading in (("docs/running.md", "variable"), ("docs/in-your-script.md", "variable"))
        for cells in rows(page, heading)
        for name in VARIABLE.findall(cells[0])
    }
    assert ours <= explained


def test_the_readme_has_every_exit_code_and_the_operators_page_what_to_do() -> None:
    codes = {value for value in vars(exit_codes).values() if isinstance(value, int)}
    told = {int(code) for cells in rows("README.md", "exit code") for code in re.findall(r"\d+", cells[0])}
    assert told - {128} == codes
    shown = re.findall(r"^  ([0-9]+)(?: / ([0-9]+))?  ", help_text.ENVIRONMENT, re.MULTILINE)
    assert {int(code) for pair in shown for code in pair if code} == codes
    explained = {int(code) for cells in rows("docs/operations.md", "code") for code in re.findall(r"\d+", cells[0])}
    assert codes <= explained


def test_the_stop_times_in_the_table_of_places_are_those_that_the_code_assumes() -> None:
    told = {cells[0]: float(cells[2].removesuffix(" s")) for cells in rows("docs/running.md", "place")}
    assert told == {place: platforms.GRACE_SECONDS[platform] for place, platform in PLACES.items()}


@pytest.mark.parametrize("line", quoted())
def test_every_line_of_the_log_that_a_page_explains_is_one_that_the_code_says(line: str) -> None:
    pattern = re.compile(".*".join(re.escape(part) for part in line.split("…")), re.DOTALL)
    assert any(pattern.search(template) for template in templates())


def test_the_policy_has_every_permission_that_the_code_names_and_says_why_it_has_each() -> None:
    statements = json.loads(the_block("iam-policy").text)["Statement"]
    allowed = {action for statement in statements for action in statement["Action"]}
    needed = {name for path in CODE for name in re.findall(r"\bs3:[A-Z]\w+", path.read_text())}
    assert needed == allowed
    assert {cells[0].strip("`") for cells in rows("docs/running.md", "action")} == allowed
