"""Orbax: a directory that is renamed, or gets a commit marker, when it is complete.

Source: google/orbax, checkpoint/_src/path/atomicity.py and metadata.
"""

from __future__ import annotations

from holdfast.probes.formats import ocdbt
from holdfast.probes.listing import Listing

_UNFINISHED = ".orbax-checkpoint-tmp"
_COMMITTED = "commit_success.txt"
_STEP, _TREE = "_CHECKPOINT_METADATA", "_METADATA"
_ARRAYS = ("jax.Array", "np.ndarray", "scalar")


def check(listing: Listing) -> dict[str, str]:
    """Return why a directory is not committed or lacks its manifest, by the path that proves it."""
    reasons: dict[str, str] = {}
    for directory, names in sorted(listing.directories().items()):
        unfinished = next((part for part in directory.split("/") if _UNFINISHED in part), None)
        if unfinished is not None:
            reasons[directory + min(names)] = f"Orbax has not committed {unfinished!r}"
        elif _STEP in names and _COMMITTED not in names and _is_pending(listing.json(directory + _STEP)):
            reasons[directory + _STEP] = "Orbax has not committed this checkpoint"
        elif (
            _TREE in names
            and ocdbt.NAME not in names
            and listing.alone
            and _needs_manifest(listing.json(directory + _TREE))
        ):
            reasons[directory + _TREE] = f"Orbax arrays without their {ocdbt.NAME}"
    return reasons


def _is_pending(metadata: object) -> bool:
    """Say whether a checkpoint has been started and not committed."""
    # Older versions, which name no handlers, note the commit after the rename.
    return (
        isinstance(metadata, dict)
        and "item_handlers" in metadata
        and type(metadata.get("init_timestamp_nsecs")) is int
        and metadata.get("commit_timestamp_nsecs", 0) is None
    )


def _needs_manifest(metadata: object) -> bool:
    """Say whether arrays are stored in OCDBT."""
    if not isinstance(metadata, dict) or metadata.get("use_ocdbt") is not True:
        return False
    tree = metadata.get("tree_metadata")
    leaves = tree.values() if isinstance(tree, dict) else ()
    values = [leaf.get("value_metadata") for leaf in leaves if isinstance(leaf, dict)]
    return any(isinstance(value, dict) and value.get("value_type") in _ARRAYS for value in values)
