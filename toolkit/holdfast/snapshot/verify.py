"""Verify: read every file of a snapshot back and compare it with the record. Nothing is written anywhere."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor

from holdfast import checksum
from holdfast.errors import DamagedError, NotFoundError
from holdfast.snapshot.record import FileEntry, Snapshot
from holdfast.store import Store

_Checked = dict[tuple[str, str, int], str | None]


def verify(
    store: Store, snapshot: Snapshot, checked: _Checked, *, workers: Executor, progress: Callable[[int], object]
) -> list[str]:
    """Return one sentence for each thing that is wrong with a snapshot; none when it is whole.

    Args:
        store: where the prefix is.
        snapshot: whose files are read.
        checked: what was found already about objects, so that one that several snapshots name is read once; added to.
        workers: reads several objects side by side.
        progress: gets the bytes of each piece that was read.

    Raises:
        StoreError: the store cannot be read, which says nothing about the snapshot.
    """
    todo = {_identity(entry): entry for entry in snapshot.files.values() if _identity(entry) not in checked}
    results = workers.map(lambda entry: _problem(store, entry, progress), todo.values())
    checked.update(zip(todo, results, strict=True))
    problems = ((entry.path, checked[_identity(entry)]) for entry in snapshot.files.values())
    return [f"{path}: {problem}" for path, problem in sorted(problems) if problem is not None]


def _identity(entry: FileEntry) -> tuple[str, str, int]:
    return entry.key, entry.etag, entry.crc64nvme


def _problem(store: Store, entry: FileEntry, progress: Callable[[int], object]) -> str | None:
    """Say what is wrong with a file; what is wrong is read once more: it may have been damaged on the way only."""
    said: str | None = None
    places = [(entry.key, entry.etag), (entry.key, entry.etag), (entry.preserved, None)]
    for key, etag in places:
        if key is None:
            continue
        try:
            problem = _difference(store, entry, key, etag, progress)
        except (DamagedError, NotFoundError) as error:
            problem = str(error)
        if problem is None:
            return None
        said = said or problem
    return said


def _difference(
    store: Store, entry: FileEntry, key: str, etag: str | None, progress: Callable[[int], object]
) -> str | None:
    """Read an object and say how it differs from what the record says."""
    crc, size = 0, 0

    def take(piece: memoryview) -> None:
        nonlocal crc, size
        crc = checksum.crc64nvme(piece, crc)
        size += len(piece)
        progress(len(piece))

    store.read(key, etag=etag, sink=take)
    if size != entry.size:
        return f"{size:,} bytes instead of {entry.size:,}"
    if crc != entry.crc64nvme:
        return f"CRC64NVME {checksum.to_hex(crc)} instead of {checksum.to_hex(entry.crc64nvme)}"
    return None
