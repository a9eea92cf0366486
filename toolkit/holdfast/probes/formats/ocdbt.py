"""The manifest of OCDBT, the key-value store of Orbax's arrays: it begins with its length and ends with its checksum.

Format: google.github.io/tensorstore/kvstore/ocdbt, "Storage format".
"""

from __future__ import annotations

from holdfast.checksum import crc32c
from holdfast.probes.verdict import CutError, Finding, UnclearError, Verdict, sized
from holdfast.probes.view import View

MAGIC = b"\x0c\xdb\x3a\x2a"
NAME = "manifest.ocdbt"
_CHECKED = 1 << 22


def check(view: View) -> Finding:
    """Probe a file that begins like a manifest."""
    head = view.at(0, 12)
    if len(head) < 12:
        raise CutError(f"OCDBT manifest of {view.size} bytes: not even a header")
    length = int.from_bytes(head[4:], "little")
    if length != view.size:
        return sized("OCDBT manifest", has=view.size, needs=length)
    if length > _CHECKED:
        raise UnclearError("OCDBT manifest of its announced length, too large to check")
    content = view.at(0, length)
    if crc32c(content[:-4]) != int.from_bytes(content[-4:], "little"):
        raise UnclearError("OCDBT manifest whose checksum does not hold")
    return Finding(Verdict.WHOLE, "OCDBT manifest of its announced length, and its checksum holds")
