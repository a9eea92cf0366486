"""Tables and JSON on standard output."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any


def printable(text: str) -> str:
    """Return a name with its control characters escaped: it cannot move the cursor or colour the terminal."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def as_json(value: object) -> None:
    """Print a value as JSON."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of cells, the columns as wide as their widest cell."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")


def say(options: argparse.Namespace, result: dict[str, Any], text: str) -> None:
    """Print the result of a command: as JSON with --json, else the text."""
    if options.json:
        as_json(result)
    else:
        sys.stdout.write(text + "\n")
