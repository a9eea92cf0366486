"""torch.distributed.checkpoint: `.metadata`, written last, names shards and ranges in them.

Source: torch/distributed/checkpoint/filesystem.py (`_StorageInfo`, `finish`).
"""

from __future__ import annotations

import re

from holdfast.probes.listing import Listing
from holdfast.probes.pickles import inert
from holdfast.probes.pickles.inert import Name, Pairs, Record
from holdfast.probes.verdict import CutError, UnclearError
from holdfast.probes.view import Cursor, View

# One for all ranks, or one for each rank where ranks do not wait for each other.
METADATA = re.compile(r"(?:__\d+)?\.metadata")
_SHARD = re.compile(r"__\d+_\d+\.distcp")


def check(listing: Listing) -> dict[str, str]:
    """Return why a directory of shards is incomplete, by the path that proves it."""
    reasons: dict[str, str] = {}
    for directory, names in sorted(listing.directories().items()):
        metadata = sorted(name for name in names if METADATA.fullmatch(name))
        shards = sorted(name for name in names if _SHARD.fullmatch(name))
        for name in metadata:
            reasons |= listing.check_ranges(directory + name, ".metadata", _shard_ends)
        if shards and not metadata and listing.alone:
            reasons[directory + shards[0]] = "torch.distributed.checkpoint shards without their .metadata"
    return reasons


def _shard_ends(view: View) -> dict[str, int]:
    """Return the end of the last range in each file that the metadata names."""
    try:
        metadata = inert.load(Cursor(view))
    except CutError as error:
        raise CutError(f".metadata that {error}") from None
    storage = metadata.get("storage_data") if isinstance(metadata, Record) else None
    if not isinstance(storage, Pairs):
        raise UnclearError("no metadata of torch.distributed.checkpoint")
    ends: dict[str, int] = {}
    for _, info in storage.pairs:
        if not isinstance(info, Record) or not isinstance(info.made_by, Name) or info.made_by.name != "_StorageInfo":
            continue
        path, offset, length = info.get("relative_path"), info.get("offset"), info.get("length")
        if isinstance(path, str) and isinstance(offset, int) and isinstance(length, int) and _is_inside(path):
            ends[path] = max(ends.get(path, 0), offset + length)
    return ends


def _is_inside(path: str) -> bool:
    return not path.startswith("/") and "://" not in path and ".." not in path.split("/")
