"""Whether what arrived is what was sent: sizes and CRC64NVMEs of whole directories, here and at the server."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path
from urllib.parse import quote, urlsplit

from benchmarks.contestants import PREFIX
from benchmarks.server import Server
from benchmarks.workloads import files
from holdfast.checksum import crc64nvme

PIECE = 1 << 20

# Size and CRC64NVME by path relative to the directory.
Sums = dict[str, tuple[int, int]]


class DifferenceError(Exception):
    """What arrived is not what was sent."""


def sums_of(directory: Path) -> Sums:
    """Read a directory."""
    return {str(path.relative_to(directory)): _sum_of(path) for path in files(directory)}


def _sum_of(path: Path) -> tuple[int, int]:
    crc = size = 0
    buffer = memoryview(bytearray(PIECE))
    with path.open("rb", buffering=0) as file:
        while got := file.readinto(buffer):
            crc, size = crc64nvme(buffer[:got], crc), size + got
    return size, crc


def sums_at(server: Server, bucket: str, names: Sums) -> Sums:
    """Read what lies at the server below `PREFIX`, for these names.

    Raises:
        DifferenceError: it does not have one of them.
    """
    host = urlsplit(server.endpoint).netloc
    context = ssl.create_default_context(cafile=str(server.authority)) if server.authority else None
    connection = http.client.HTTPSConnection(host, context=context) if context else http.client.HTTPConnection(host)
    found: Sums = {}
    buffer = memoryview(bytearray(PIECE))
    try:
        for name in names:
            connection.request("GET", f"/{bucket}/{PREFIX}/{quote(name)}")
            answer = connection.getresponse()
            crc = size = 0
            while got := answer.readinto(buffer):
                crc, size = crc64nvme(buffer[:got], crc), size + got
            if answer.status != 200:
                raise DifferenceError(f"{name} is not at the server ({answer.status})")
            found[name] = size, crc
    finally:
        connection.close()
    return found


def require_same(wanted: Sums, found: Sums) -> None:
    """Compare.

    Raises:
        DifferenceError: with the first names that are missing, too many, or of other content.
    """
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        raise DifferenceError(f"{len(wrong)} of {len(wanted)} files are not what was sent: {', '.join(wrong[:3])}")
