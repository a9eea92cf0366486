"""Lists: the files of a large snapshot in pieces, so that a commit writes again only the pieces that have changed.

Where a piece ends follows from one path alone. So it ends there in every snapshot that has this path, whatever was
added or removed before it.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from holdfast.errors import DamagedError
from holdfast.snapshot.record import FileEntry
from holdfast.snapshot.record_json import MOST_LIST_BYTES, to_entry, to_value

MOST_INLINE = 2_000
"""Files that a record lists itself."""
MEAN = 8_192
"""Files of a list, on average."""
_MOST = 32_768
_MOST_WEIGHT = 8 << 20
"""Characters of what is long in the entries of one list: unpacked it stays far below `MOST_LIST_BYTES`."""
_LEVEL = 4
"""Of gzip: 6 takes twice as long for 3 % less."""
_GZIP = 31
"""What zlib calls the format."""


def cut(files: Mapping[str, FileEntry]) -> Iterator[tuple[FileEntry, ...]]:
    """Yield the files in the order of their paths, list by list."""
    piece: list[FileEntry] = []
    weight = 0
    for path in sorted(files):
        entry = files[path]
        piece.append(entry)
        weight += len(path) + len(entry.key)
        if not zlib.crc32(path.encode()) % MEAN or len(piece) == _MOST or weight > _MOST_WEIGHT:
            yield tuple(piece)
            piece, weight = [], 0
    if piece:
        yield tuple(piece)


def pack(entries: Sequence[FileEntry]) -> bytes:
    """Return a list as it is stored."""
    lines = ",\n".join(json.dumps(to_value(entry), ensure_ascii=False) for entry in entries)
    return gzip.compress(f"[\n{lines}\n]\n".encode(), _LEVEL, mtime=0)


def unpack(data: bytes, *, key: str) -> tuple[FileEntry, ...]:
    """Return the files of a stored list.

    Args:
        data: what lies at its key.
        key: to name it in an error.

    Raises:
        DamagedError: it is no list, or unpacks to more than any list has.
    """
    try:
        unpacking = zlib.decompressobj(_GZIP)
        text = unpacking.decompress(data, MOST_LIST_BYTES)
        if not unpacking.eof or unpacking.unused_data:
            raise DamagedError(f"list {key} is not whole, or has more than {MOST_LIST_BYTES:,} bytes unpacked")
        return tuple(_entries(json.loads(text)))
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise DamagedError(f"list {key} does not parse: {type(error).__name__}: {error}") from error


def _entries(values: Iterable[dict[str, object]]) -> Iterator[FileEntry]:
    if not isinstance(values, list):
        raise TypeError("it is no array")
    return map(to_entry, values)
