"""TensorFlow's checkpoints: `<name>.index` and `<name>.data-00000-of-00001` and so on.

The index has the number of data files and the end of each tensor. Source: tensorflow/core/util/tensor_bundle.
"""

from __future__ import annotations

import re

from holdfast.probes.formats import sstable
from holdfast.probes.listing import Listing
from holdfast.probes.view import View

_DATA = re.compile(r"(.+)\.data-\d{5}-of-(\d{5})")


def check(listing: Listing) -> dict[str, str]:
    """Return why a set of index and data files is incomplete, by the path that proves it."""
    reasons: dict[str, str] = {}
    names = {found[1] for path in listing.files if (found := _DATA.fullmatch(path))}
    for index in listing.ending(sstable.SUFFIX):
        if index.removesuffix(sstable.SUFFIX) in names or listing.read(index, _looks_like_one):
            reasons |= listing.check_ranges(index, "TensorFlow index", sstable.shard_sizes)
    for name in sorted(names):
        index = name + sstable.SUFFIX
        if listing.alone and "/" in name and index not in listing.files:
            # At the top level it is left over from a deletion: nothing resumes from it, and it does no harm.
            first = min(path for path in listing.files if path.startswith(f"{name}.data-"))
            reasons[first] = f"TensorFlow data without its index {index!r}"
    return reasons


def _looks_like_one(view: View) -> bool:
    return bool(sstable.HEAD.match(view.at(0, 16)))
