"""Show the progress of a long transfer: a bar on a terminal, lines in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from holdfast_entrypoint.log import beside_bar

_LOG = logging.getLogger(__name__)

EVERY = 10.0
"""Seconds between two lines in a log."""
Progress = Callable[[int, int], None]
"""Takes the bytes done, and the bytes in all."""


@contextmanager
def shown(doing: str) -> Iterator[Progress]:
    """Yield the function that shows progress of `doing` ("restoring"); calls after the `with` are harmless."""
    if not _on_terminal():
        yield Lines(doing, time.monotonic)
        return
    with bar(doing) as drawn:

        def count(done: int, total: int) -> None:
            drawn.update(done - drawn.n)
            if drawn.total != total:
                drawn.total = total
                drawn.refresh()

        yield count


class Lines:
    """Log every 10 s the bytes done, the rate, and the seconds left."""

    def __init__(self, doing: str, clock: Callable[[], float]) -> None:
        self._doing = doing
        self._clock = clock
        self._began = self._logged = clock()

    def __call__(self, done: int, total: int) -> None:
        """Note the bytes done, and the bytes in all."""
        now = self._clock()
        if now - self._logged < EVERY:
            return
        self._logged = now
        rate = done / (now - self._began)
        left = f", {(total - done) / rate:,.0f} s left" if rate > 0 else ""
        share = 100 * done // max(1, total)
        _LOG.info("%s", f"{self._doing}: {done:,} of {total:,} bytes ({share} %), {rate / 1e6:,.1f} MB/s{left}")


class Bar(Protocol):
    """The part of a tqdm bar that is used."""

    n: float
    total: float | None

    def update(self, n: float | None = 1, /) -> object:
        """Add to the bytes done."""
        ...

    def refresh(self) -> object:
        """Draw the bar again."""
        ...


class _NoBar:
    """The bar where there is no terminal: nothing."""

    n: float = 0
    total: float | None = None

    def update(self, n: float | None = 1, /) -> None:
        pass

    def refresh(self) -> None:
        pass


@contextmanager
def bar(label: str) -> Iterator[Bar]:
    """Show a bar on a terminal, apart from log lines; a pipe or a log gets none."""
    if not _on_terminal():
        yield _NoBar()
        return
    from tqdm import tqdm  # noqa: PLC0415  takes 20 ms

    with tqdm(desc=label, unit="B", unit_scale=True, unit_divisor=1024, leave=False) as drawn, beside_bar(drawn.clear):
        yield drawn


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
