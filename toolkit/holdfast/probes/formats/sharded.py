"""Weights in several files with an index: of Hugging Face, diffusers and Keras.

`model.safetensors.index.json`, `pytorch_model.bin.index.json` and `<name>.weights.json` map each weight to its file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from holdfast.probes.listing import Listing

_INDEX, _KERAS_INDEX = ".index.json", ".weights.json"
_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})\.(safetensors|bin)")


def check(listing: Listing) -> dict[str, str]:
    """Return why an index or a row of numbered shards is incomplete, by the path that proves it."""
    if not listing.alone:
        return {}
    reasons: dict[str, str] = {}
    named: set[str] = set()
    for path in [*listing.ending(_INDEX), *listing.ending(_KERAS_INDEX)]:
        files = sorted(_named(listing, path))
        named.update(files)
        # An index may be left over from a larger model, over which a smaller one was saved into a single file.
        left_over = path.endswith(_INDEX) and path.removesuffix(_INDEX) in listing.files
        missing = [file for file in files if file not in listing.files]
        if missing and not left_over:
            reasons[path] = f"index that names {missing[0]!r}, which is missing"
    return reasons | _check_rows(listing, named)


def _named(listing: Listing, path: str) -> Iterator[str]:
    index = listing.json(path)
    weights = index.get("weight_map") if isinstance(index, dict) else None
    directory, slash, _ = path.rpartition("/")
    for files in weights.values() if isinstance(weights, dict) else ():
        for file in files if isinstance(files, list) else [files]:
            if isinstance(file, str) and file and not file.startswith("/") and ".." not in file.split("/"):
                yield directory + slash + file


def _check_rows(listing: Listing, named: set[str]) -> dict[str, str]:
    """Return the rows of shards `…-00001-of-00004` with missing ones, where no index names any of them."""
    rows: dict[tuple[str, str, str], set[str]] = {}
    for path in listing.files:
        if found := _SHARD.fullmatch(path):
            rows.setdefault((found[1], found[2], found[3]), set()).add(path)
    reasons = {}
    for (stem, total, suffix), paths in sorted(rows.items()):
        single = f"{stem}.{suffix}"
        if len(paths) < int(total) and not paths & named and single not in listing.files:
            reasons[min(paths)] = f"{len(paths)} of {int(total)} shards, and no index"
    return reasons
