"""CRC-32C (Castagnoli), for small files with that checksum: TensorFlow indexes, OCDBT manifests. 5 MB/s."""

from __future__ import annotations

from functools import cache

_POLYNOMIAL = 0x82F63B78


def crc32c(content: bytes) -> int:
    """Return the checksum of `content`."""
    table = _table()
    crc = 0xFFFFFFFF
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@cache
def _table() -> tuple[int, ...]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)  # noqa: PLW2901  the register
        table.append(crc)
    return tuple(table)
