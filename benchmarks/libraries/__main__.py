"""Move a directory with one library: `python -m benchmarks.libraries NAME upload|download BUCKET PREFIX DIRECTORY`.

With the name alone it only sees whether the library is there: exit code 0.
"""

from __future__ import annotations

import importlib
import os
import sys

from benchmarks.libraries.place import Place


def main(arguments: list[str]) -> None:
    name, *rest = arguments
    library = importlib.import_module(f"benchmarks.libraries.{name}")
    if rest:
        verb, bucket, prefix, directory = rest
        getattr(library, verb)(Place.read(os.environ, bucket, prefix, directory))


if __name__ == "__main__":
    main(sys.argv[1:])
