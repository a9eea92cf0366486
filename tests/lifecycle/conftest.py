"""Start holdfast as a process."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.lifecycle.supervised import Supervised

Start = Callable[..., Supervised]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `holdfast run` with a store below the test's directory; what still runs at the end is killed."""
    running: list[Supervised] = []

    def start_one(*command: str | Path, **options: Any) -> Supervised:
        running.append(Supervised(tmp_path, command, **options))
        return running[-1]

    yield start_one
    for supervised in running:
        supervised.vanish()
