"""Files and directories that the real frameworks write, small and large, for the probes to judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Provable = Callable[[bytes, int], bool]
"""Whether the content, cut at this length, is provably cut."""


def every_cut(content: bytes, length: int) -> bool:
    return True


def within_text(content: bytes, length: int) -> bool:
    return 0 < length < len(content.rstrip())


def behind(first: int) -> Provable:
    """Every cut that leaves enough to be recognised."""
    return lambda content, length: length >= first


@dataclass(frozen=True)
class File:
    """One file that a framework writes.

    Attributes:
        format: its row in docs/formats.md.
        name: of the file, since some formats are known by it.
        needs: modules that make it.
        make: writes it to a path; the seed says with which numbers.
        provable: which cuts of it are.
        whole: whether its format has checksums, and so lets a probe call it whole.
    """

    format: str
    name: str
    needs: tuple[str, ...]
    make: Callable[[Path, int], object]
    provable: Provable = every_cut
    whole: bool = False

    def __str__(self) -> str:
        return f"{self.format}-{self.name}"


@dataclass(frozen=True)
class Directory:
    """One checkpoint of several files that a framework writes.

    Attributes:
        format: its row in docs/formats.md.
        name: of the directory.
        needs: modules that make it.
        make: writes it into an existing, empty directory.
        needed: pattern → whether a checkpoint without such a file is provably incomplete.
        cut: pattern of the files of which every cut is refused → which cuts.
    """

    format: str
    name: str
    needs: tuple[str, ...]
    make: Callable[[Path], object]
    needed: tuple[str, ...] = ()
    cut: Mapping[str, Provable] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.format}-{self.name}"
