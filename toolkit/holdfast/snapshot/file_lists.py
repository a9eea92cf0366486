"""Split the files of a large snapshot into lists, so that a commit writes only the lists that have changed.

The last path of a list alone decides that the list ends there. So it ends there in every snapshot that has this path,
whatever was added or removed before it.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence

from holdfast.errors import DamagedError
from holdfast.snapshot.record import FileEntry
from holdfast.snapshot.record_json import MOST_LIST_BYTES, to_entry, to_value

MOST_INLINE = 2_000
"""Limit of files that a record lists itself."""
MEAN = 8_192
"""Average number of files in a list."""
_MOST = 32_768
_MOST_WEIGHT = 8 << 20
"""Characters of paths and keys in one list: unpacked it stays far below `MOST_LIST_BYTES`."""
_LEVEL = 4  # of gzip: 6 takes twice as long for 3 % less
_GZIP = 31  # zlib's number for the format


def cut(files: Mapping[str, FileEntry]) -> Iterator[tuple[FileEntry, ...]]:
    """Yield the files in the order of their paths, list by list."""
    entries: list[FileEntry] = []
    weight = 0
    for path in sorted(files):  # of a million files: names compare twice as fast as pairs
        entry = files[path]
        entries.append(entry)
        weight += len(path) + len(entry.key)
        if not zlib.crc32(path.encode()) % MEAN or len(entries) == _MOST or weight > _MOST_WEIGHT:
            yield tuple(entries)
            entries, weight = [], 0
    if entries:
        yield tuple(entries)


def pack(entries: Sequence[FileEntry]) -> bytes:
    """Return the stored form of a list."""
    lines = ",\n".join(json.dumps(to_value(entry), ensure_ascii=False) for entry in entries)
    return gzip.compress(f"[\n{lines}\n]\n".encode(), _LEVEL, mtime=0)


def unpack(data: bytes, *, key: str) -> tuple[FileEntry, ...]:
    """Return the files of a stored list.

    Raises:
        DamagedError: it is no list, or unpacks to more than any list has.
    """
    try:
        unpacking = zlib.decompressobj(_GZIP)
        text = unpacking.decompress(data, MOST_LIST_BYTES)
        if not unpacking.eof or unpacking.unused_data:
            raise DamagedError(f"list {key} is not whole, or has more than {MOST_LIST_BYTES:,} bytes unpacked")
        values = json.loads(text)
        if not isinstance(values, list):
            raise TypeError("it is no array")
        return tuple(map(to_entry, values))
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise DamagedError(f"list {key} does not parse: {type(error).__name__}: {error}") from error
