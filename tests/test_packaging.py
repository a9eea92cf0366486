"""What the distribution declares: its name, and the packages that its code imports."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_IMPORTED_YET = {"boto3"}
"""Declared for commands that call other AWS services than S3."""


def imported() -> set[str]:
    found: set[str] = set()
    for path in [*ROOT.glob("toolkit/**/*.py"), *ROOT.glob("entrypoint/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"holdfast", "holdfast_entrypoint"}


def test_a_plain_installation_brings_every_package_that_the_code_imports_and_no_other() -> None:
    declared = {re.match(r"[a-z0-9-]+", requirement)[0] for requirement in PROJECT["dependencies"]}  # type: ignore[index]
    assert declared == imported() | NOT_IMPORTED_YET
    assert "optional-dependencies" not in PROJECT


def test_the_distribution_is_not_called_as_somebody_elses_on_pypi() -> None:
    assert PROJECT["name"] == "holdfast-training"
    assert PROJECT["scripts"] == {"holdfast": "holdfast_entrypoint.cli.main:main"}
    pages = [*ROOT.glob("*.md"), *ROOT.glob("*/*.md")]
    assert not [page for page in pages if re.search(r"pip install \S*\bholdfast\b(?!-training)", page.read_text())]
