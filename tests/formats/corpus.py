"""The corpus: every case of every library, its cuts, and the tally of its results."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from tests.formats import small_libraries, tensorflow_libraries, torch_libraries

FILES = (*small_libraries.FILES, *torch_libraries.FILES, *tensorflow_libraries.FILES)
DIRECTORIES = (*torch_libraries.DIRECTORIES, *tensorflow_libraries.DIRECTORIES)


@dataclass
class Tally:
    """Number of results, by format."""

    intact: Counter[str] = field(default_factory=Counter)
    refused_intact: Counter[str] = field(default_factory=Counter)
    provable: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    unprovable: Counter[str] = field(default_factory=Counter)
    holes: Counter[str] = field(default_factory=Counter)

    def lines(self) -> Iterator[str]:
        yield "| format | intact | refused | provable cuts | refused | other cuts | holes and mixtures |"
        yield "|---|---|---|---|---|---|---|"
        columns = (self.intact, self.refused_intact, self.provable, self.refused, self.unprovable, self.holes)
        for name in sorted(set().union(*columns)):
            yield f"| {name} | " + " | ".join(f"{column[name]:,}" for column in columns) + " |"
        yield "| all | " + " | ".join(f"{column.total():,}" for column in columns) + " |"


def need(modules: tuple[str, ...]) -> None:
    """Skip a test whose frameworks are missing; HOLDFAST_REQUIRE_FORMATS=1 makes that a failure."""
    tensorflow_libraries.quiet()
    missing = [name for name in modules if importlib.util.find_spec(name.partition(".")[0]) is None]
    if missing and os.environ.get("HOLDFAST_REQUIRE_FORMATS") == "1":
        pytest.fail(f"HOLDFAST_REQUIRE_FORMATS=1, and {', '.join(missing)} is not installed")
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed (make test-formats installs it)")


def cuts(size: int) -> list[int]:
    """Return the lengths to cut to: every percent, the first 16 and the last 64 bytes; of a small file, all."""
    if size <= 512:
        return list(range(size))
    return sorted({size * part // 100 for part in range(100)} | set(range(16)) | set(range(size - 64, size)))
