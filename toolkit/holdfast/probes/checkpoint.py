"""Judging the files of one checkpoint together: whether one of them names others that are missing, or too short."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from holdfast.probes.formats import dcp, orbax, sharded, tensorflow
from holdfast.probes.listing import Listing

_SETS: tuple[Callable[[Listing], dict[str, str]], ...] = (tensorflow.check, dcp.check, sharded.check, orbax.check)


def probe_checkpoint(root: Path, files: Collection[str], *, alone: bool = True) -> dict[str, str]:
    """Judge the files of one checkpoint as a set. What a single file proves of itself is `probe`'s.

    Args:
        root: the checkpoint directory.
        files: paths of one checkpoint (all below one top-level directory, or all at the top level), relative to
            `root`, with slashes.
        alone: whether this host writes all of it. Where others hold other shards, a missing file proves nothing, and
            one that is too short still does.

    Returns:
        Path → why the checkpoint is provably incomplete: the path of the file that proves it.

    Raises:
        OSError: a file cannot be read; one that has gone meanwhile is no error.
    """
    listing = Listing(root, frozenset(files), alone)
    reasons: dict[str, str] = {}
    for check in _SETS:
        reasons |= check(listing)
    return reasons
