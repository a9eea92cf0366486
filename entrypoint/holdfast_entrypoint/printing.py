"""Printing: tables, JSON and progress bars of the commands that people and scripts call by hand."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol


def printable(text: str) -> str:
    """Return a name that cannot move the cursor or colour the terminal."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


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


def as_json(value: object) -> None:
    """Print a value as JSON, for machines."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of cells, the columns as wide as their widest cell."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")


def say(options: argparse.Namespace, result: dict[str, Any], text: str) -> None:
    """Print what a command did: as JSON where that was asked for, else as a line."""
    if options.json:
        as_json(result)
    else:
        sys.stdout.write(text + "\n")
