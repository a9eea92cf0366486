"""JSON in .json files: small state beside weights, the models of XGBoost, the indexes of sharded checkpoints.

What was written of a JSON document before its end has an open bracket or an open string, so a scan that only tells
strings from brackets proves the cut. What is no JSON (comments, templates) is left alone.
"""

from __future__ import annotations

import json
import re

from holdfast.probes.verdict import CutError, Finding, UnclearError, unknown
from holdfast.probes.view import View

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
# Up to a string that is not closed, in one pass: a search for strings would begin anew at every quote within it.
_CLOSED = re.compile(rb'(?:[^"]*+"[^"\\]*+(?:\\.[^"\\]*+)*+")*+[^"]*+', re.DOTALL)
# Everything that JSON has outside its strings, as Python writes it: NaN and Infinity too.
_OUTSIDE = b"{}[]:, \t\r\n0123456789+-.eEtrufalsnNaInity"
_SPACE = b" \t\r\n"
_PIECE = 1 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def check(view: View) -> Finding:
    """Judge a file whose name says that it is JSON.

    Raises:
        CutError: a bracket or a string is open at its end.
        UnclearError: it is no JSON.
    """
    start = view.at(0, 4096).removeprefix(_BYTE_ORDER_MARK).lstrip(_SPACE)[:1]
    if start not in (b"{", b"["):
        raise UnclearError("JSON neither of an object nor of an array")
    end = _last_content(view)
    if end > max(view.budget, _PIECE):
        return _check_last(view, start, end)
    depth, rest = _scan(view, end)
    if rest or depth > 0:
        missing = "a string" if rest else "a bracket"
        raise CutError(f"JSON with {missing} that is not closed, cut at {end:,} bytes")
    if depth < 0:
        raise UnclearError("JSON with more brackets closed than opened")
    return unknown(f"JSON with its last bracket, of {view.size:,} bytes; nothing in it vouches for its content")


def parse(content: bytes) -> object:
    """Return the value of a JSON text; None where it is no JSON, or nested too deeply."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _last_content(view: View) -> int:
    """Return where the content ends: before zeros, which a file system may leave where nothing was written."""
    end = view.size
    while end > 0:
        start = max(0, end - _PIECE)
        kept = view.at(start, end - start).rstrip(b"\0")
        if kept:
            return start + len(kept)
        end = start
    return 0


def _check_last(view: View, start: bytes, end: int) -> Finding:
    """Judge a document that is too large to read: at least its last byte must be what closes its first."""
    _scan(view, _PIECE)
    last = view.at(max(0, end - _PIECE), min(end, _PIECE)).rstrip(_SPACE)[-1:]
    if last != {b"{": b"}", b"[": b"]"}[start]:
        raise CutError(f"JSON without its last bracket, cut at {end:,} bytes")
    return unknown(f"JSON with a last bracket, of {view.size:,} bytes that were not all read")


def _scan(view: View, end: int) -> tuple[int, bytes]:
    """Return how many brackets are open at `end`, and the string that is.

    Raises:
        UnclearError: something outside of strings is not JSON's.
    """
    depth, rest = 0, b""
    for number, piece in enumerate(view.chunks(0, end)):
        text = rest + (piece if number else piece.removeprefix(_BYTE_ORDER_MARK))
        closed = _CLOSED.match(text)
        open_at = closed.end() if closed else 0
        outside, rest = _STRING.sub(b"", text[:open_at]), text[open_at:]
        if outside.translate(None, _OUTSIDE):
            raise UnclearError("no JSON, in spite of its name")
        if len(rest) > 16 * _PIECE:
            raise UnclearError("JSON with a string of many megabytes")
        depth += outside.count(b"{") + outside.count(b"[") - outside.count(b"}") - outside.count(b"]")
    return depth, rest
