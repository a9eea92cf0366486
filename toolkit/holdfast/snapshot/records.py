"""Read records from the store, with the lists that they name."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from weakref import WeakValueDictionary

from holdfast import checksum
from holdfast.errors import DamagedError, NotFoundError
from holdfast.snapshot import file_lists, keys, record_json
from holdfast.snapshot.record import Fence, FileEntry, FileList, Snapshot
from holdfast.store import Store


@dataclass(frozen=True, slots=True)
class RecordCache:
    """What is known of records before they are read, and of those that have been read.

    Attributes:
        etags: of the records and fences that were listed, by name.
        lists: lists of files, by key, as long as a snapshot has them: successive snapshots share most of them.
        records: those that will be read once more, by name.
    """

    etags: dict[str, str] = field(default_factory=dict)
    lists: WeakValueDictionary[str, FileList] = field(default_factory=WeakValueDictionary)
    records: dict[str, Snapshot | Fence] = field(default_factory=dict)


def exists(store: Store, key: str) -> bool:
    """Say whether there is an object at a key."""
    try:
        store.head(key)
    except NotFoundError:
        return False
    return True


def read_whole(store: Store, key: str, *, etag: str | None = None) -> bytes:
    """Return the content of a small object; with an ETag, as `Store.read`."""
    content = bytearray()
    store.read(key, etag=etag, sink=content.extend)
    return bytes(content)


def load_record(
    store: Store, name: str, cache: RecordCache | None = None, *, workers: Executor | None = None, again: bool = False
) -> Snapshot | Fence:
    """Read a record or a fence. A damaged one is read twice: the damage may have happened on the way.

    Args:
        cache: what is known already (default: nothing).
        workers: read the lists of a large snapshot in parallel; must not be given in one of their own threads.
        again: keep the record for one more call.

    Raises:
        DamagedError: there is no such record any more, or it or one of its lists is damaged.
    """
    cache = cache or RecordCache()
    loaded = cache.records.pop(name, None)
    if loaded is None:
        try:
            try:
                loaded = _read_record(store, name, cache.etags.get(name), cache, workers)
            except DamagedError:
                loaded = _read_record(store, name, None, cache, workers)
        except NotFoundError as error:
            raise DamagedError(f"snapshot {name}: there is no such record") from error
    if again:
        cache.records[name] = loaded
    return loaded


def _read_record(
    store: Store, name: str, etag: str | None, cache: RecordCache, workers: Executor | None
) -> Snapshot | Fence:
    loaded = record_json.from_json(read_whole(store, keys.snapshot_key(name), etag=etag), name=name)
    if not isinstance(loaded, Snapshot) or not loaded.lists:
        return loaded

    def read(wanted: FileList) -> FileList:
        known = cache.lists.get(wanted.key)
        if known is not None and replace(known, entries=()) == wanted:
            return known
        cache.lists[wanted.key] = read = replace(wanted, entries=_read_list(store, wanted, name))
        return read

    lists = workers.map(read, loaded.lists) if workers else map(read, loaded.lists)
    return record_json.with_lists(loaded, list(lists))


def _read_list(store: Store, wanted: FileList, name: str) -> tuple[FileEntry, ...]:
    data = bytearray()

    def take(block: memoryview) -> None:
        data.extend(block)
        if len(data) > wanted.size:
            raise DamagedError(f"list {wanted.key} is longer than {wanted.size:,} bytes")

    try:
        store.read(wanted.key, etag=wanted.etag, sink=take)
    except (DamagedError, NotFoundError) as error:
        raise DamagedError(f"snapshot {name}: a list of its files is gone or another: {error}") from error
    if (len(data), checksum.crc64nvme(data)) != (wanted.size, wanted.crc64nvme):
        raise DamagedError(f"snapshot {name}: list {wanted.key} is not what the record says")
    return file_lists.unpack(bytes(data), key=wanted.key)
