"""Fixtures that start holdfast as a process of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.lifecycle.supervised import Supervised

Start = Callable[..., Supervised]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `holdfast run` with a store below the test's directory; whatever still runs at the end is killed."""
    running: list[Supervised] = []

    def begin(*command: str | Path, **options: Any) -> Supervised:
        running.append(Supervised(tmp_path, command, **options))
        return running[-1]

    yield begin
    for supervised in running:
        supervised.vanish()
