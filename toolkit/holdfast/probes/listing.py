"""The files of one checkpoint, for probes of several files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from holdfast.probes.formats import json_text
from holdfast.probes.verdict import CutError, UnclearError
from holdfast.probes.view import View

_Result = TypeVar("_Result")
_LARGEST_TEXT = 1 << 26


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a checkpoint.

    Attributes:
        files: paths relative to it, with slashes.
        alone: whether no other host has further files.
    """

    root: Path
    files: frozenset[str]
    alone: bool

    def directories(self) -> dict[str, set[str]]:
        """Return the names of the files in each directory, whose path is "" or ends with a slash."""
        found: dict[str, set[str]] = {}
        for path in self.files:
            directory, slash, name = path.rpartition("/")
            found.setdefault(directory + slash, set()).add(name)
        return found

    def ending(self, suffix: str) -> Iterator[str]:
        """Yield the paths with a suffix, sorted."""
        yield from sorted(path for path in self.files if path.endswith(suffix))

    def size(self, path: str) -> int | None:
        """Return the size of a file in bytes, None for a missing file."""
        try:
            return (self.root / path).stat().st_size if path in self.files else None
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, path: str, reader: Callable[[View], _Result]) -> _Result | None:
        """Return the result of `reader` for a file, None for a missing file."""
        try:
            with (self.root / path).open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                return reader(View(partial(os.pread, file.fileno()), path.rpartition("/")[2], size, size))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def check_ranges(self, index: str, what: str, read_ends: Callable[[View], Mapping[str, int]]) -> dict[str, str]:
        """Return why the set of an index is incomplete, by the path that proves it.

        Args:
            what: the index in words.
            read_ends: returns the least size of each file, by its name beside the index.
        """
        try:
            ends = self.read(index, read_ends) or {}
        except CutError as error:
            return {index: str(error)}
        except UnclearError:
            return {}
        directory, slash, _ = index.rpartition("/")
        for name, needs in sorted(ends.items()):
            path = directory + slash + name
            has = self.size(path)
            if has is not None and has < needs:
                return {path: f"file of {has:,} bytes of which its {what} names {needs:,}"}
            if has is None and self.alone:
                return {index: f"{what} that names {name!r}, which is missing"}
        return {}

    def json(self, path: str) -> object:
        """Return the value of a JSON file, None where it cannot be read."""
        return self.read(path, lambda view: json_text.parse(view.at(0, min(view.size, _LARGEST_TEXT))))
