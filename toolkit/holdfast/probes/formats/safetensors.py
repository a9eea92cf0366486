"""safetensors: eight bytes of length, a JSON header, the tensors. The header has the end of each tensor.

Format: github.com/huggingface/safetensors, README, "Format".
"""

from __future__ import annotations

from holdfast.probes.formats import json_text
from holdfast.probes.verdict import CutError, Finding, UnclearError, sized
from holdfast.probes.view import View

SUFFIX = ".safetensors"
_LARGEST_HEADER = 100_000_000  # the library refuses more
_LARGEST_READ = 1 << 25


def looks_like_one(head: bytes) -> bool:
    """Say whether the first bytes are those of a safetensors file: a valid length, and a JSON object."""
    return head[8:10] in (b"{}", b'{"') and 2 <= int.from_bytes(head[:8], "little") <= _LARGEST_HEADER


def check(view: View) -> Finding:
    """Probe a file with the first bytes or the name of a safetensors file."""
    named = view.name.endswith(SUFFIX)
    head = view.at(0, 16)
    length = int.from_bytes(head[:8], "little")
    if named and len(head) < 10 and (len(head) < 8 or 2 <= length <= _LARGEST_HEADER):
        raise CutError(f"safetensors of {view.size} bytes: not even a header")
    if not looks_like_one(head) or length > _LARGEST_READ:
        raise UnclearError("no safetensors header that could be read")
    if view.size < 8 + length:
        if named or b'"data_offsets"' in view.at(8, 1 << 16):
            raise CutError(f"safetensors cut within its header, at {view.size:,} of at least {8 + length:,} bytes")
        raise UnclearError("something that begins like safetensors")
    return sized("safetensors file", has=view.size, needs=8 + length + _end_of_tensors(view.at(8, length)))


def _end_of_tensors(header: bytes) -> int:
    """Return where the last tensor ends, in bytes after the header."""
    tensors = json_text.parse(header)
    if not isinstance(tensors, dict):
        raise UnclearError("safetensors whose header is no JSON object")
    end = 0
    for name, tensor in tensors.items():
        if name == "__metadata__":
            continue
        offsets = tensor.get("data_offsets") if isinstance(tensor, dict) else None
        if not (isinstance(offsets, list) and len(offsets) == 2 and all(type(offset) is int for offset in offsets)):
            raise UnclearError("safetensors whose header gives no offsets")
        end = max(end, offsets[1])
    return end
