"""Probes: does a file's own format prove that it is whole, or that it is cut?"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path


class Verdict(Enum):
    """What a format says of a file."""

    WHOLE = auto()
    CUT = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict and its reason."""

    verdict: Verdict
    reason: str


def probe(path: Path) -> Finding:
    """Probe one file."""
    return Finding(Verdict.UNKNOWN, f"{path.name} is of no known format")


def probe_checkpoint(root: Path, files: Collection[str], *, alone: bool = True) -> dict[str, str]:
    """Probe what belongs together; return path → reason."""
    return dict.fromkeys([] if alone else (path for path in files if not (root / path).exists()), "it is gone")
