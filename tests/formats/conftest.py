"""Print the results of the corpus at the end: the table of docs/formats.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.formats.cases import Directory, File
from tests.formats.corpus import Tally, need

TALLY = pytest.StashKey[Tally]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TALLY] = Tally()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[TALLY].intact:
        terminalreporter.section("corpus of formats")
        for line in config.stash[TALLY].lines():
            terminalreporter.write_line(line)


@pytest.fixture
def tally(pytestconfig: pytest.Config) -> Tally:
    return pytestconfig.stash[TALLY]


class Corpus:
    """Write each case once."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def file(self, case: File, seed: int = 1) -> Path:
        path = self._root / f"{case}-{seed}".replace("/", "-").replace(" ", "-") / case.name
        if not path.exists():
            need(case.needs)
            path.parent.mkdir()
            case.make(path, seed)
        return path

    def directory(self, case: Directory) -> tuple[Path, list[str]]:
        root = self._root / f"{case}".replace("/", "-").replace(" ", "-")
        if not root.exists():
            need(case.needs)
            (root / case.name).mkdir(parents=True)
            case.make(root / case.name)
        return root, sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(tmp_path_factory.mktemp("corpus"))
