"""Grid: the checksums of the parts of a large file, and their text form in records."""

from __future__ import annotations

import base64
import struct
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
        return f"{self.step}:{base64.b64encode(struct.pack(f'>{len(self.crcs)}Q', *self.crcs)).decode('ascii')}"


def from_text(text: str, *, size: int) -> Grid:
    """Parse what `Grid.to_text` returned for a file of `size` bytes.

    Raises:
        ValueError: it is no grid of a file of that size.
    """
    step, _, encoded = text.partition(":")
    values = base64.b64decode(encoded, validate=True)
    if int(step) <= 0 or len(values) != 8 * -(-size // int(step)):
        raise ValueError(f"{text[:40]!r} is no grid of a file of {size:,} bytes")
    return Grid(int(step), struct.unpack(f">{len(values) // 8}Q", values))
