"""Progress of a long transfer: a bar on a terminal, a line now and then in a log."""

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
"""Gets the bytes that are done, and all there are."""


@contextmanager
def shown(doing: str) -> Iterator[Progress]:
    """Show progress as long as the `with` lasts.

    Args:
        doing: such as "restoring".

    Yields:
        What gets the progress. It works afterwards, too.
    """
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
    """Logs every few seconds how far something has come, how fast, and for how long it will go on.

    Args:
        doing: what it is.
        clock: seconds.
    """

    def __init__(self, doing: str, clock: Callable[[], float]) -> None:
        self._doing = doing
        self._clock = clock
        self._began = self._logged = clock()

    def __call__(self, done: int, total: int) -> None:
        """Take note of the bytes that are done, and of all there are."""
        now = self._clock()
        if now - self._logged < EVERY:
            return
        self._logged = now
        rate = done / (now - self._began)
        left = f", {(total - done) / rate:,.0f} s left" if rate > 0 else ""
        share = 100 * done // max(1, total)
        _LOG.info("%s", f"{self._doing}: {done:,} of {total:,} bytes ({share} %), {rate / 1e6:,.1f} MB/s{left}")


class Bar(Protocol):
    """What is needed of tqdm's bars."""

    n: float
    total: float | None

    def update(self, n: float | None = 1, /) -> object:
        """Add to what is done."""
        ...

    def refresh(self) -> object:
        """Draw it anew."""
        ...


class _NoBar:
    """What a pipe or a log gets: nothing."""

    n: float = 0
    total: float | None = None

    def update(self, n: float | None = 1, /) -> None:
        pass

    def refresh(self) -> None:
        pass


@contextmanager
def bar(label: str) -> Iterator[Bar]:
    """Show progress on a terminal, on which lines of the log have lines of their own; a pipe or a log gets none."""
    if not _on_terminal():
        yield _NoBar()
        return
    from tqdm import tqdm  # noqa: PLC0415  20 ms that only a bar needs

    with tqdm(desc=label, unit="B", unit_scale=True, unit_divisor=1024, leave=False) as drawn, beside_bar(drawn.clear):
        yield drawn


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
