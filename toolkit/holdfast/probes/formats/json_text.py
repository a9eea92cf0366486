"""JSON: small state beside weights, XGBoost's models, the indexes of sharded checkpoints.

A cut document has an open bracket or an open string, so a scan for strings and brackets proves the cut. Files with
anything that JSON does not have (comments, templates) are unknown.
"""

from __future__ import annotations

import json
import re

from holdfast.probes.verdict import CutError, Finding, UnclearError
from holdfast.probes.view import View

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
# Up to an open string, in one pass: a search for strings would start again at every quote within it.
_CLOSED = re.compile(rb'(?:[^"]*+"[^"\\]*+(?:\\.[^"\\]*+)*+")*+[^"]*+', re.DOTALL)
# All that Python writes outside of strings, with NaN and Infinity.
_OUTSIDE = b"{}[]:, \t\r\n0123456789+-.eEtrufalsnNaInity"
_SPACE = b" \t\r\n"
_CHUNK = 1 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def check(view: View) -> Finding:
    """Probe a file with a name of JSON."""
    start = view.at(0, 4096).removeprefix(_BYTE_ORDER_MARK).lstrip(_SPACE)[:1]
    if start not in (b"{", b"["):
        raise UnclearError("JSON neither of an object nor of an array")
    end = _last_content(view)
    if end > max(view.budget, _CHUNK):
        return _check_last(view, start, end)
    depth, rest = _scan(view, end)
    if rest or depth > 0:
        missing = "a string" if rest else "a bracket"
        raise CutError(f"JSON with {missing} that is not closed, cut at {end:,} bytes")
    if depth < 0:
        raise UnclearError("JSON with more brackets closed than opened")
    raise UnclearError(f"JSON with its last bracket, of {view.size:,} bytes; nothing in it vouches for its content")


def parse(content: bytes) -> object:
    """Return the value of a JSON text; None where it is no JSON, or nested too deeply."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _last_content(view: View) -> int:
    """Return where the content ends: before zeros, which a file system may leave at the end."""
    end = view.size
    while end > 0:
        start = max(0, end - _CHUNK)
        kept = view.at(start, end - start).rstrip(b"\0")
        if kept:
            return start + len(kept)
        end = start
    return 0


def _check_last(view: View, start: bytes, end: int) -> Finding:
    """Probe a document that is too large to read: its last byte must close its first."""
    _scan(view, _CHUNK)
    last = view.at(max(0, end - _CHUNK), min(end, _CHUNK)).rstrip(_SPACE)[-1:]
    if last != {b"{": b"}", b"[": b"]"}[start]:
        raise CutError(f"JSON without its last bracket, cut at {end:,} bytes")
    raise UnclearError(f"JSON with a last bracket, of {view.size:,} bytes that were not all read")


def _scan(view: View, end: int) -> tuple[int, bytes]:
    """Return the number of brackets that are open at `end`, and the open string."""
    depth, rest = 0, b""
    for number, chunk in enumerate(view.chunks(0, end)):
        text = rest + (chunk if number else chunk.removeprefix(_BYTE_ORDER_MARK))
        closed = _CLOSED.match(text)
        open_at = closed.end() if closed else 0
        outside, rest = _STRING.sub(b"", text[:open_at]), text[open_at:]
        if outside.translate(None, _OUTSIDE):
            raise UnclearError("no JSON, in spite of its name")
        if len(rest) > 16 * _CHUNK:
            raise UnclearError("JSON with a string of many megabytes")
        depth += outside.count(b"{") + outside.count(b"[") - outside.count(b"}") - outside.count(b"]")
    return depth, rest
