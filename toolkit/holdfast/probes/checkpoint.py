"""Probe the files of one checkpoint together: one of them may name others that are missing or too short."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from holdfast.probes.formats import dcp, orbax, sharded, tensorflow
from holdfast.probes.listing import Listing

_SETS: tuple[Callable[[Listing], dict[str, str]], ...] = (tensorflow.check, dcp.check, sharded.check, orbax.check)


def probe_checkpoint(root: Path, files: Collection[str], *, alone: bool = True) -> dict[str, str]:
    """Probe the files of one checkpoint as a set; `probe` is for what a file proves by itself.

    Args:
        files: paths of one checkpoint (all below one top-level directory, or all at the top level), relative to
            `root`, with slashes.
        alone: whether this host writes all of the checkpoint. Otherwise a missing file proves nothing, and only one
            that is too short does (default True).

    Returns:
        Path of a file → why it proves that the checkpoint is incomplete. A file that was deleted meanwhile is no error.
    """
    listing = Listing(root, frozenset(files), alone)
    reasons: dict[str, str] = {}
    for check in _SETS:
        reasons |= check(listing)
    return reasons
