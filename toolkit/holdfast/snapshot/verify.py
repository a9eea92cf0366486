"""Read every file of a snapshot and compare it with the record. Nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor

from holdfast import checksum
from holdfast.errors import DamagedError, NotFoundError
from holdfast.snapshot.record import FileEntry, Snapshot
from holdfast.store import Content, Store


def verify(
    store: Store,
    snapshot: Snapshot,
    checked: dict[Content, str | None],
    *,
    workers: Executor,
    progress: Callable[[int], object],
) -> list[str]:
    """Return one sentence for each thing that is wrong with a snapshot; none when it is whole.

    Args:
        checked: results of earlier calls, so that an object in several snapshots is read once; extended here.
        progress: receives the number of bytes after each read.
    """
    todo = {entry.content: entry for entry in snapshot.files.values() if entry.content not in checked}
    results = workers.map(lambda entry: _problem(store, entry, progress), todo.values())
    checked.update(zip(todo, results, strict=True))
    problems = ((entry.path, checked[entry.content]) for entry in snapshot.files.values())
    return [f"{path}: {problem}" for path, problem in sorted(problems) if problem is not None]


def _problem(store: Store, entry: FileEntry, progress: Callable[[int], object]) -> str | None:
    """Return what is wrong with a file. A damaged one is read twice: the damage may have happened on the way."""
    problems: list[str] = []
    for key, etag in ((entry.key, entry.etag), (entry.key, entry.etag), (entry.preserved, None)):
        if key is not None:
            problem = _difference(store, entry, key, etag, progress)
            if problem is None:
                return None
            problems.append(problem)
    return problems[0]


def _difference(
    store: Store, entry: FileEntry, key: str, etag: str | None, progress: Callable[[int], object]
) -> str | None:
    """Read an object and return its difference from the record, None where there is none."""
    crc, size = 0, 0

    def take(block: memoryview) -> None:
        nonlocal crc, size
        crc = checksum.crc64nvme(block, crc)
        size += len(block)
        progress(len(block))

    try:
        store.read(key, etag=etag, sink=take)
    except (DamagedError, NotFoundError) as error:
        return str(error)
    if size != entry.size:
        return f"{size:,} bytes instead of {entry.size:,}"
    if crc != entry.crc64nvme:
        return f"CRC64NVME {checksum.to_hex(crc)} instead of {checksum.to_hex(entry.crc64nvme)}"
    return None
