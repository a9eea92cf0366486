"""Grid: the checksums of the parts of a large file, and their text form in records."""

from __future__ import annotations

import array
import base64
import binascii
import sys
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Grid:
    """The checksums of a file's parts. All parts have one size; the last may be smaller.

    Attributes:
        step: bytes in each part but the last.
        crcs: CRC64NVME of each, in the order of the file.
    """

    step: int
    crcs: tuple[int, ...]

    def parts(self, size: int) -> Iterator[tuple[int, int, int]]:
        """Yield (checksum, offset, bytes) of each part of a file of `size` bytes."""
        for number, crc in enumerate(self.crcs):
            yield crc, number * self.step, min(self.step, size - number * self.step)

    def to_text(self) -> str:
        """Return the text form: the step, a colon, and base64 of eight big-endian bytes a part."""
        values = array.array("Q", self.crcs)
        if sys.byteorder == "little":
            values.byteswap()
        return f"{self.step}:{base64.b64encode(values.tobytes()).decode('ascii')}"


def from_text(text: str, *, size: int) -> Grid:
    """Parse what `Grid.to_text` returned for a file of `size` bytes.

    Raises:
        ValueError: it is no grid of a file of that size.
    """
    step, _, encoded = text.partition(":")
    values = array.array("Q")
    try:
        values.frombytes(base64.b64decode(encoded, validate=True))
    except binascii.Error as error:
        raise ValueError(f"{text[:40]!r} is no base64") from error
    if sys.byteorder == "little":
        values.byteswap()
    if int(step) <= 0 or len(values) != -(-size // int(step)):
        raise ValueError(f"{text[:40]!r} is no grid of a file of {size:,} bytes")
    return Grid(int(step), tuple(values))
