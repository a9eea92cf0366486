"""The types of a case: a file or a directory that a framework writes."""

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
    """Return a test for cuts that leave so many bytes, by which the format is recognized."""
    return lambda content, length: length >= first


@dataclass(frozen=True)
class File:
    """One file that a framework writes.

    Attributes:
        format: its row in docs/formats.md.
        name: of the file, which decides the format of some.
        needs: modules that write it.
        make: writes it to a path; the seed decides the values.
        provable: whether a cut is provable (default: every cut).
        whole: whether the format has checksums, so that a probe can call the file whole.
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
        needs: modules that write it.
        make: writes it into an existing, empty directory.
        needed: patterns of files without which the checkpoint is provably incomplete.
        cut: pattern of files → whether a cut of one is provable.
    """

    format: str
    name: str
    needs: tuple[str, ...]
    make: Callable[[Path], object]
    needed: tuple[str, ...] = ()
    cut: Mapping[str, Provable] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.format}-{self.name}"
