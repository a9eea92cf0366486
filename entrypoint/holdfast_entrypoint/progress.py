"""Progress of a long transfer: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

EVERY = 10.0
"""Seconds between two lines in a log."""
Tell = Callable[[str], None]
Progress = Callable[[int, int], None]
"""Gets the bytes that are done, and all there are."""


@contextmanager
def shown(doing: str, tell: Tell) -> Iterator[tuple[Tell, Progress]]:
    """Show progress as long as the `with` lasts.

    Args:
        doing: such as "restoring".
        tell: says a sentence on stderr.

    Yields:
        What says a sentence meanwhile, and what gets the progress. Both work afterwards, too.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield tell, Lines(doing, tell, time.monotonic)
        return
    with bar(doing) as (drawn, _):

        def say(text: str) -> None:
            drawn.clear()
            tell(text)

        def count(done: int, total: int) -> None:
            drawn.update(done - drawn.n)
            if drawn.total != total:
                drawn.total = total
                drawn.refresh()

        yield say, count


class Lines:
    """Says every few seconds how far something has come, how fast, and for how long it will go on.

    Args:
        doing: what it is.
        tell: gets the sentence.
        clock: seconds.
    """

    def __init__(self, doing: str, tell: Tell, clock: Callable[[], float]) -> None:
        self._doing = doing
        self._tell = tell
        self._clock = clock
        self._began = self._said = clock()

    def __call__(self, done: int, total: int) -> None:
        """Take note of the bytes that are done, and of all there are."""
        now = self._clock()
        if now - self._said < EVERY:
            return
        self._said = now
        rate = done / (now - self._began)
        left = f", {(total - done) / rate:,.0f} s left" if rate > 0 else ""
        share = 100 * done // max(1, total)
        self._tell(f"{self._doing}: {done:,} of {total:,} bytes ({share} %), {rate / 1e6:,.1f} MB/s{left}")


class Bar(Protocol):
    """What is needed of tqdm's bars."""

    n: float
    total: float | None

    def update(self, n: float | None = 1, /) -> object:
        """Add to what is done."""
        ...

    def clear(self) -> None:
        """Take it off the screen."""
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

    def clear(self) -> None:
        pass

    def refresh(self) -> None:
        pass


@contextmanager
def bar(label: str) -> Iterator[tuple[Bar, Callable[[str], None]]]:
    """Show progress on a terminal; a pipe or a log gets none."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield _NoBar(), lambda text: print(f"holdfast: {text}", file=sys.stderr)
        return
    from tqdm import tqdm  # noqa: PLC0415  20 ms that only a bar needs

    with tqdm(desc=label, unit="B", unit_scale=True, unit_divisor=1024, leave=False) as shown:
        yield shown, lambda text: tqdm.write(f"holdfast: {text}", file=sys.stderr)
