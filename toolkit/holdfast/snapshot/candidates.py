"""Find the records of several hosts that belong together, so that all hosts restore the same state.

Hosts do not communicate. The records alone decide: which files a host had, when it wrote them, and when it last
committed that these are all. docs/snapshot-format.md, "Several hosts", has the rule.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

from holdfast.errors import DamagedError
from holdfast.names import checkpoint_of, is_log
from holdfast.snapshot import keys
from holdfast.snapshot.attempt import Attempt
from holdfast.snapshot.catalog import Catalog
from holdfast.snapshot.record import Fence, FileEntry, FileList, Snapshot
from holdfast.snapshot.records import load_record
from holdfast.store import Store

SKEW = 30.0
"""Seconds within which all hosts finish the same checkpoint, the difference of their clocks included."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Records that are restored together: one of each host, in the order of the hosts."""

    records: tuple[Snapshot, ...]

    @property
    def name(self) -> str:
        """The names of the records."""
        return " + ".join(record.name for record in self.records)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the records, one by one."""
        return tuple(record.name for record in self.records)

    @property
    def adopted(self) -> dict[str, str]:
        """Objects that any host has adopted, key → ETag."""
        return {key: etag for record in self.records for key, etag in record.adopted.items()}

    @property
    def lists(self) -> tuple[FileList, ...]:
        """The lists of all hosts."""
        return tuple(file_list for record in self.records for file_list in record.lists)

    def files(self) -> dict[str, FileEntry]:
        """Return the files of all hosts, by path; of a path that several hosts have, the file of the first."""
        return {path: entry for record in reversed(self.records) for path, entry in record.files.items()}

    def split(self, mine: Attempt | None) -> tuple[dict[str, FileEntry], dict[str, FileEntry]]:
        """Return the files with which this host continues and those of other hosts, each by path.

        The files of a host that is not in the attempt go to the attempt's first host.
        """
        own: dict[str, FileEntry] = {}
        theirs: dict[str, FileEntry] = {}
        # As in `files`, the first record wins; the one of this host comes before those of missing hosts.
        ranked = sorted(self.records, key=lambda record: mine is None or record.host != mine.slot)
        for record in reversed(ranked):
            (theirs if mine is not None and mine.leaves(record.host) else own).update(record.files)
        return own, theirs

    def conflicts(self) -> dict[str, list[str]]:
        """Return the paths for which hosts have different content, each with those hosts."""
        found: dict[str, dict[tuple[int, int], str]] = {}
        for record in self.records:
            for path, entry in record.files.items():
                found.setdefault(path, {}).setdefault((entry.size, entry.crc64nvme), record.host)
        return {path: sorted(hosts.values()) for path, hosts in found.items() if len(hosts) > 1}


def of(store: Store, found: Catalog, names: Sequence[str], workers: Executor) -> Candidate | DamagedError:
    """Return the candidate of records that belong together; for a damaged record, the error."""
    loaded = list(_load_all(store, found, names, workers))
    damaged = next((record for record in loaded if isinstance(record, DamagedError)), None)
    return damaged or Candidate(tuple(record for record in loaded if isinstance(record, Snapshot)))


def newest_first(
    store: Store, found: Catalog, workers: Executor, *, passed_over: Collection[str] = ()
) -> Iterator[Candidate | DamagedError]:
    """Yield what can be restored, newest first; for a damaged record, the error.

    Args:
        passed_over: names of records to skip.
    """
    by_attempt: dict[int, list[str]] = {}
    for name in reversed(found.snapshots):
        if name not in passed_over:
            by_attempt.setdefault(keys.commit_order(name)[0], []).append(name)
    for names in by_attempt.values():
        several: dict[str, list[str]] = {}
        for name in names:
            if host := keys.host_of(name):
                several.setdefault(host, []).append(name)
                continue
            (loaded,) = _load_all(store, found, [name], workers)
            if isinstance(loaded, Snapshot):
                yield Candidate((loaded,))
            elif isinstance(loaded, DamagedError):
                yield loaded
        yield from _consistent(several, partial(_load_all, store, found, workers=workers))


def _load_all(
    store: Store, found: Catalog, names: Sequence[str], workers: Executor
) -> Iterable[Snapshot | Fence | DamagedError]:
    """Read records in parallel; of a single one, its lists."""

    def load(name: str, among: Executor | None = None) -> Snapshot | Fence | DamagedError:
        try:
            return load_record(store, name, found.cache, workers=among)
        except DamagedError as error:
            return error

    return [load(names[0], workers)] if len(names) == 1 else workers.map(load, names)


def _consistent(
    unread: Mapping[str, list[str]], load: Callable[[Sequence[str]], Iterable[Snapshot | Fence | DamagedError]]
) -> Iterator[Candidate | DamagedError]:
    """Yield the consistent choices among the records of one attempt of several hosts, newest first.

    Args:
        unread: host → names of its records, newest first. The next one of every host is read when one host needs it.
        load: reads records in parallel.
    """
    histories: dict[str, list[Snapshot]] = {}
    position: Counter[str] = Counter()
    while True:
        hosts = next((history[0].hosts for history in histories.values()), tuple(unread))
        lacking = [host for host in hosts if len(histories.get(host, ())) <= position[host]]
        if not hosts or not unread.keys() >= {*lacking}:
            return
        if lacking:
            level = [names[0] for names in unread.values()]
            unread = {host: names[1:] for host, names in unread.items() if names[1:]}
            for loaded in load(level):
                if isinstance(loaded, Snapshot):
                    histories.setdefault(loaded.host, []).append(loaded)
                elif isinstance(loaded, DamagedError):
                    yield loaded
            continue
        chosen = {host: histories[host][position[host]] for host in hosts}
        ahead = _ahead(chosen)
        if ahead is None:
            yield Candidate(tuple(chosen[host] for host in hosts))
            # If it does not verify, the newest of the records is replaced by the one before it.
            ahead = max(hosts, key=lambda host: began(chosen[host]))
        position[ahead] += 1


def began(record: Snapshot) -> float:
    """Return when a host first committed the files of a record, seconds since the epoch."""
    return (record.since or record.created).timestamp()


def _ahead(chosen: Mapping[str, Snapshot]) -> str | None:
    """Return a host whose record has a checkpoint that another host's record does not complete; None when all fit.

    A checkpoint is complete when every host has either written its part at about the same time, or committed so much
    later that it has all its files that a part of its own can no longer follow.
    """
    written = {host: _written(record) for host, record in chosen.items()}
    confirmed = {host: _confirmed(record) for host, record in chosen.items()}
    for checkpoint in sorted({name for times in written.values() for name in times}):
        newest = max(written, key=lambda host: written[host].get(checkpoint, -math.inf))
        moment = written[newest][checkpoint]
        for host in chosen:
            took_part = written[host].get(checkpoint, -math.inf) >= moment - SKEW
            if not took_part and confirmed[host] < moment + SKEW:
                return newest
    return None


def _confirmed(record: Snapshot) -> float:
    """Return when a host last committed that these are all its files, seconds since the epoch."""
    if not record.complete:
        return -math.inf
    return math.inf if record.ended else record.created.timestamp()


def _written(record: Snapshot) -> dict[str, float]:
    """Return when each checkpoint of a record was last written, seconds since the epoch, without its logs.

    All files at the top level count as one checkpoint: every rank may have one of its own there.
    """
    times: dict[str, float] = {}
    for path, entry in record.files.items():
        if not is_log(path):
            name = checkpoint_of(path) if "/" in path else ""
            times[name] = max(times.get(name, 0.0), entry.mtime_ns / 1e9)
    return times
