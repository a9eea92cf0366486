"""What holdfast logs while a test runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

OURS = ("holdfast", "holdfast_entrypoint")
Logged = Callable[[], list[str]]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Logged:
    """Return what returns the sentences that holdfast has logged in this test, from INFO on, oldest first."""
    for name in OURS:
        caplog.set_level(logging.INFO, name)
    return lambda: [record.getMessage() for record in caplog.records if record.name.partition(".")[0] in OURS]


@contextmanager
def each_sentence(take: Callable[[str], object]) -> Iterator[None]:
    """Call `take` with each sentence that holdfast logs, from INFO on: for campaigns, which have no fixtures."""
    handler = _Taker(take)
    logger = logging.getLogger("holdfast")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Taker(logging.Handler):
    def __init__(self, take: Callable[[str], object]) -> None:
        super().__init__()
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        self._take(record.getMessage())
