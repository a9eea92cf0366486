"""LightGBM's text models: the header gives the length of every tree, and a line ends the trees.

Source: github.com/microsoft/LightGBM, src/boosting/gbdt_model_text.cpp.
"""

from __future__ import annotations

import re

from holdfast.probes.verdict import CutError, Finding, UnclearError, unknown
from holdfast.probes.view import View

MAGIC = b"tree\nversion=v"
_HEADER_LIMIT = 1 << 25
_SIZES = re.compile(rb"\ntree_sizes=([0-9 ]*)\n\n")
_TREES_END = b"end of trees"
_PARAMETERS, _PARAMETERS_END = b"\nparameters:\n", b"end of parameters"


def check(view: View) -> Finding:
    """Judge a file that begins like a model.

    Raises:
        CutError: it ends before its trees do, or within its parameters.
        UnclearError: its header is not known.
    """
    header = view.at(0, _HEADER_LIMIT)
    found = _SIZES.search(header)
    if found is None:
        if view.size < _HEADER_LIMIT and b"\nTree=" not in header and _TREES_END not in header:
            raise CutError(f"LightGBM model cut within its header, at {view.size:,} bytes")
        raise UnclearError("LightGBM model with a header that is not known")
    trees_end = found.end() + sum(int(size) for size in found[1].split() if len(size) < 19)
    if view.size < trees_end + len(_TREES_END):
        raise CutError(f"LightGBM model cut within its trees, at {view.size:,} of {trees_end:,} bytes")
    rest = view.at(trees_end, _HEADER_LIMIT)
    if not rest.startswith(_TREES_END):
        raise UnclearError("LightGBM model whose trees do not end where its header says")
    if _PARAMETERS in rest and _PARAMETERS_END not in rest and len(rest) < _HEADER_LIMIT:
        raise CutError(f"LightGBM model cut within its parameters, at {view.size:,} bytes")
    return unknown("LightGBM model with all its trees; nothing marks its end")
