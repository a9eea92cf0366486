"""Count the requests, CPU and memory for a million files, checkpoints of a terabyte, and a thousand hosts.

    python -m benchmarks.scale                       # 10^6 files, 1,000 hosts: minutes, and some GiB of memory
    python -m benchmarks.scale --files 20000 --hosts 20
    python -m benchmarks.scale --markdown docs/scale.md

The engines are the real ones. The store is a bucket in memory that counts requests as S3 bills them. Files are entries
without content, since none is read here. CPU and memory are those of this process.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from tests.crash.hostile import Bucket

from holdfast.attempts import claim, fence, rendezvous
from holdfast.attempts.rendezvous import Group
from holdfast.maintenance.collect import Collector
from holdfast.maintenance.expire import Expirer
from holdfast.maintenance.plain_keys import PlainKeys
from holdfast.maintenance.publish import Publisher
from holdfast.maintenance.references import References, Slots
from holdfast.maintenance.reported import Reported
from holdfast.maintenance.retention import Retention
from holdfast.maintenance.upkeep import Upkeep
from holdfast.snapshot import candidates, catalog
from holdfast.snapshot.attempt import Attempt
from holdfast.snapshot.catalog import Catalog
from holdfast.snapshot.commit import Commits
from holdfast.snapshot.list_writer import ListWriter
from holdfast.snapshot.record import FileEntry, Snapshot
from holdfast.stop import NEVER
from holdfast.store import Condition, Metadata, ObjectInfo, Part, Sink, UnfinishedUpload
from holdfast.transfer import parts, upload
from holdfast.transfer.content_index import ContentIndex

T = TypeVar("T")

PAGE = 1_000
PUTS_PER_SECOND, GETS_PER_SECOND = 3_500, 5_500
"""What S3 promises for each prefix (docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html)."""
KIND = {"list": "PUT", "put": "PUT", "copy": "PUT", "get": "GET", "head": "GET", "delete": "DELETE"}
"""Under which price AWS counts a request; deleting costs nothing."""
TERABYTE = 10**12


@dataclass
class Counting(Bucket):
    """A bucket that counts requests.

    Attributes:
        requests: number of requests by kind.
        written: bytes that were put, by the first directory below `.holdfast/`.
        plain: keys of files whose content is not read.
    """

    requests: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)
    plain: Sequence[str] = ()

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return self._paged(prefix)

    def _paged(self, prefix: str) -> Iterator[ObjectInfo]:
        yielded = 0
        for infos in (super().list(prefix), self._plain(prefix)):
            for info in infos:
                if yielded % PAGE == 0:
                    self.requests["list"] += 1
                yielded += 1
                yield info
        self.requests["list"] += yielded == 0

    def _plain(self, prefix: str) -> Iterator[ObjectInfo]:
        for key in self.plain if not prefix else ():
            yield ObjectInfo(key, 1, '"e"', 1.79e9)

    def head(self, key: str) -> ObjectInfo:
        self.requests["head"] += 1
        return super().head(key)

    def read(self, key: str, *, offset: int = 0, size: int | None = None, etag: str | None = None, sink: Sink) -> None:
        self.requests["get"] += 1
        super().read(key, offset=offset, size=size, etag=etag, sink=sink)

    def put(self, key: str, part: Part, *, metadata: Metadata | None = None, condition: Condition | None = None) -> str:
        self.requests["put"] += 1
        self.written[key.split("/")[1]] += part.size
        return super().put(key, part, metadata=metadata, condition=condition)

    def delete(self, key: str, *, etag: str | None = None) -> None:
        self.requests["delete"] += 1
        super().delete(key, etag=etag)

    def unfinished_uploads(self) -> Iterator[UnfinishedUpload]:
        self.requests["list"] += 1
        return super().unfinished_uploads()


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one operation.

    Attributes:
        what: name of the operation.
        requests: number of requests by kind.
        written: bytes of records and lists that were put.
        cpu: CPU time of the client, seconds; None: not measured.
        memory: growth of the client's memory, MiB; None: not measured.
    """

    what: str
    requests: Mapping[str, float]
    written: Mapping[str, float] = field(default_factory=dict)
    cpu: float | None = None
    memory: float | None = None

    def billed(self, kind: str) -> float:
        """Return the number of requests that AWS bills as `PUT` or as `GET`."""
        return sum(count for name, count in self.requests.items() if KIND[name] == kind)

    @property
    def seconds(self) -> float:
        """The least time that S3 takes, at the rates that it promises for one prefix."""
        return max(self.billed("PUT") / PUTS_PER_SECOND, self.billed("GET") / GETS_PER_SECOND)

    def times(self, factor: float, what: str) -> Cost:
        """Return the cost of `factor` such operations."""
        return Cost(what, {name: count * factor for name, count in self.requests.items()})

    def __add__(self, other: Cost) -> Cost:
        names = self.requests.keys() | other.requests.keys()
        both = {name: self.requests.get(name, 0) + other.requests.get(name, 0) for name in names}
        return replace(self, requests=both)


class Meter:
    """Measure operations on a bucket."""

    def __init__(self, bucket: Counting) -> None:
        self.costs: list[Cost] = []
        self._bucket = bucket

    def measure(self, what: str, do: Callable[[], T]) -> T:
        """Run an operation and note its cost."""
        gc.collect()
        self._bucket.requests.clear()
        self._bucket.written.clear()
        memory, began = _resident(), time.process_time()
        done = do()
        cpu = time.process_time() - began
        grown = max(0, _resident() - memory) / 2**20
        self.costs.append(Cost(what, dict(self._bucket.requests), dict(self._bucket.written), cpu, grown))
        return done


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def entries(count: int) -> dict[str, FileEntry]:
    """Return the files of a large snapshot: a thousand in each directory, each with its own content."""
    found = {}
    for number in range(count):
        path = f"step-{number // 1_000:06d}/shard-{number % 1_000:05d}-of-01000.distcp"
        found[path] = _entry(path, number)
    return found


def _entry(path: str, number: int) -> FileEntry:
    content = (number + 1) * 0x9E3779B97F4A7C15  # spread over all bits, as checksums are
    etag = f'"{(content * content) % 2**128:032x}"'
    return FileEntry(
        path=path,
        size=1,
        mtime_ns=1_790_000_000_000_000_000 + 997 * number,
        mode=0o644,
        crc64nvme=content % 2**64,
        key=path,
        etag=etag,
    )


class Machine:
    """One host with the parts that `holdfast run` gives it, without files.

    Args:
        mine: the claimed attempt.
        now: returns the time, UTC.
        base: the records that it has restored.
    """

    def __init__(
        self,
        bucket: Counting,
        found: Catalog,
        mine: Attempt,
        workers: ThreadPoolExecutor,
        now: Callable[[], datetime],
        base: Sequence[Snapshot] = (),
    ) -> None:
        self.files = {path: entry for record in base for path, entry in record.files.items()}
        list_writer = ListWriter(bucket, mine, workers, known=[it for record in base for it in record.lists])
        self._commits = Commits(bucket, mine, {}, list_writer, now)
        slots = Slots(mine.number, frozenset({mine.slot}), mine.hosts, rest=mine.leads)
        plain, known = PlainKeys(bucket, mine, {}, workers), ContentIndex()
        references = References(bucket, found, slots, plain, workers)
        self._upkeep = Upkeep(
            references,
            Publisher(plain, references, known),
            Expirer(
                references,
                Retention(),
                plain,
                lambda: now().timestamp(),
                reported=Reported(bucket, mine, references, workers).until,
            ),
            Collector(bucket, references, plain, workers),
            known=known,
            list_writer=list_writer,
            refuse_if_superseded=self._commits.refuse_if_superseded,
            drop_unfinished=lambda entries: None,
        )

    def commit(self, changed: Mapping[str, FileEntry]) -> None:
        self.files = {**self.files, **changed}
        for snapshot in self._commits.commit(self.files):
            self._upkeep.committed(snapshot)

    def repeat(self) -> None:
        for snapshot in self._commits.commit(self.files, repeated=True):
            self._upkeep.committed(snapshot)

    def tidy(self) -> None:
        self._upkeep.tidy(self.files, NEVER)


def start_alone(bucket: Counting, workers: ThreadPoolExecutor) -> Machine:
    """Start a host that is alone: claim, fence, read the newest snapshot, list the prefix; no file is restored."""
    found = catalog.read_catalog(bucket)
    now = datetime.now(UTC)
    known = claim.honours_conditions(bucket, found, workers)
    mine = claim.claim(bucket, found.attempts, claim.Claimant("h", "0", "local"), started=now, conditional=known)
    found = fence.fence(bucket, found, mine, workers)
    chosen = next(iter(candidates.newest_first(bucket, found, workers)), None)
    found.objects()
    base = chosen.records if isinstance(chosen, candidates.Candidate) else ()
    return Machine(bucket, found, mine, workers, lambda: datetime.now(UTC), base)


def many_files(count: int) -> list[Cost]:
    """Measure the cost of records and lists of one host with many files."""
    bucket = Counting()
    meter = Meter(bucket)
    with ThreadPoolExecutor(8) as workers:
        bucket.plain = _fill(bucket, meter, workers, count)
        meter.measure("restart: claim, fence, record, lists, listing", lambda: start_alone(bucket, workers))
    return meter.costs


def _fill(bucket: Counting, meter: Meter, workers: ThreadPoolExecutor, count: int) -> list[str]:
    """Measure the commits of a first attempt; return the paths of its files."""
    machine = meter.measure("start on an empty prefix", lambda: start_alone(bucket, workers))
    files = entries(count)
    meter.measure("first commit, its record and lists", lambda: machine.commit(files))
    meter.measure("upkeep after it", machine.tidy)
    first = next(iter(files))
    changed = {first: replace(files[first], crc64nvme=1)}
    meter.measure("commit of one changed file", lambda: machine.commit(changed))
    step = {path: _entry(path, 7) for path in (f"step-999999/shard-{number:05d}" for number in range(1_000))}
    meter.measure("commit of a new step of 1,000 files", lambda: machine.commit(step))
    scattered = {path: replace(files[path], crc64nvme=2) for path in list(files)[:: max(1, count // 100)]}
    meter.measure(f"commit of {len(scattered)} changed files, scattered", lambda: machine.commit(scattered))
    meter.measure("upkeep that deletes a snapshot", machine.tidy)
    return sorted(machine.files)


class Training:
    """Hosts that train together on one prefix, with a clock of their own."""

    def __init__(self, count: int, workers: ThreadPoolExecutor) -> None:
        self.bucket = Counting()
        self.names = tuple(f"algo-{number}" for number in range(1, count + 1))
        self._workers = workers
        self._now = datetime(2026, 11, 21, tzinfo=UTC)
        self._step = 0
        self.machines = {name: self.start(name, "one") for name in self.names}

    def start(self, name: str, run: str) -> Machine:
        """Start a host, without its files."""
        bucket, workers = self.bucket, self._workers
        claimant = claim.Claimant(name, "0", "local")
        group = Group(self.names, run)
        mine, found, base = rendezvous.join(bucket, group, claimant, clock=self._clock, workers=workers)
        found = fence.fence(bucket, found, mine, workers)
        chosen = candidates.of(bucket, found, base, workers) if base else None
        found.objects()
        records = chosen.records if isinstance(chosen, candidates.Candidate) else ()
        own = [record for record in records if record.host == name]
        return Machine(bucket, found, mine, workers, self._clock, own)

    def _clock(self) -> datetime:
        return self._now

    def next_step(self) -> None:
        self._step += 1

    def commit(self, name: str) -> None:
        """Commit the host's shard of the step; the last three steps stay on its disk."""
        path = f"step-{self._step:06d}/{name}.distcp"
        machine = self.machines[name]
        machine.files = dict(list(machine.files.items())[-2:])
        machine.commit({path: replace(_entry(path, self._step), mtime_ns=int(self._now.timestamp()) * 10**9)})

    def hour(self, commits: int) -> Counter[str]:
        """Train for an hour, with this number of commits of each host; return the requests of retention."""
        retention: Counter[str] = Counter()
        for minute in range(60):
            self._now += timedelta(minutes=1)
            saves = (minute + 1) * commits // 60 > minute * commits // 60
            if saves:
                self.next_step()
            for name, machine in self.machines.items():
                if saves:
                    self.commit(name)
                machine.repeat()
                before = Counter(self.bucket.requests)
                machine.tidy()
                retention += self.bucket.requests - before
        return retention


def many_hosts(count: int, commits: int = 6) -> list[Cost]:
    """Measure the cost of many hosts: of an hour, of one commit, of a restart."""
    with ThreadPoolExecutor(8) as workers:
        training = Training(count, workers)
        meter = Meter(training.bucket)
        training.hour(commits)  # in the first hour there are few old snapshots
        retention = meter.measure(f"an hour of {count:,} hosts, {commits} commits each", lambda: training.hour(commits))
        meter.costs.append(Cost("of these, retention", retention))
        first, last = training.names[0], training.names[-1]
        training.next_step()
        meter.measure("commit of one host", lambda: training.commit(last))
        meter.measure("report of one host, once a minute", training.machines[last].repeat)
        meter.measure("restart of the host that begins", lambda: training.start(first, "two"))
        meter.measure("restart of a host that joins", lambda: training.start(last, "two"))
    return meter.costs


def large_file(size: int) -> list[Cost]:
    """Return the cost of a file of this size, bytes: each part is one request up, and one request down."""
    count = len(list(parts.ranges(size)))
    up = {"put": count + 2} if size >= upload.SINGLE_PUT else {"put": 1}  # begun and completed
    return [Cost("store it once", up), Cost("restore it", {"get": count})]


def report(options: argparse.Namespace) -> str:
    """Measure everything and return it as Markdown."""
    files, hosts = many_files(options.files), many_hosts(options.hosts, options.commits)
    named = {cost.what: cost for cost in (*files, *hosts)}
    begin, join = named["restart of the host that begins"], named["restart of a host that joins"]
    everywhere = (begin + join.times(options.hosts - 1, "")).times(
        1, f"restart of {options.hosts:,} hosts, without the files"
    )
    content = [
        Cost(f"store {options.files:,} files of less than 64 MiB", {"put": options.files}),
        Cost(f"restore {options.files:,} files of less than 16 MiB", {"get": options.files}),
        *(replace(cost, what=f"1 TB in one file: {cost.what}") for cost in large_file(TERABYTE)),
        *(cost.times(TERABYTE / 2**30, f"1 TB in files of 1 GiB: {cost.what}") for cost in large_file(2**30)),
    ]
    sections = (
        (f"One host, {options.files:,} files: records and lists", files),
        (f"{options.hosts:,} hosts on one prefix, each with a shard of every step: records", [*hosts, everywhere]),
        ("Content", content),
    )
    tables = (f"### {title}\n\n{_table(costs, options)}" for title, costs in sections)
    return "\n\n".join([_head(options), *tables]) + "\n"


def _head(options: argparse.Namespace) -> str:
    return f"""# Scale

The requests to S3, and the client's CPU and memory, for {options.files:,} files, checkpoints of a terabyte, and
{options.hosts:,} hosts on one prefix. One program writes this page:
```sh
python -m benchmarks.scale --files {options.files} --hosts {options.hosts} --markdown docs/scale.md
```
It runs the engines of holdfast on a bucket in memory that counts requests as S3 bills them: a listing is one request
for each 1,000 keys. Records and lists are real, in number and bytes. Files are entries without content.

- **records, lists**: bytes of the records and lists that are put.
- **CPU**: seconds of one core of the client. **MiB**: growth of its resident memory.
- **at S3's rates**: the least time that S3 takes for the requests, at {PUTS_PER_SECOND:,} writes and
  {GETS_PER_SECOND:,} reads a second for one prefix
  ([S3's user guide](https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html)). Network and
  disk may take longer.
- **US $**: price of the requests alone, at ${options.put_price} for 1,000 PUT, COPY, POST or LIST and
  ${options.get_price} for 1,000 GET or HEAD (AWS's public price page, S3 Standard, us-east-1, November 2026;
  `--put-price` and `--get-price` set others). DELETE is free.

The hour of many hosts is simulated minute by minute, after a first hour that leaves old snapshots. Each host commits
{options.commits} times, repeats its last record every minute, and deletes its own old snapshots. Only the first host
reads the records of the others ([who deletes what](snapshot-format.md#several-hosts)): retention takes about 6,000 GET
and HEAD an hour at most, however many hosts there are and however often they commit."""


def _table(costs: Sequence[Cost], options: argparse.Namespace) -> str:
    lines = [
        "| | LIST | PUT | GET, HEAD | DELETE | records | lists | CPU | MiB | at S3's rates | US $ |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for cost in costs:
        asked = Counter(cost.requests)
        dollars = (cost.billed("PUT") * options.put_price + cost.billed("GET") * options.get_price) / 1_000
        numbers = (asked["list"], asked["put"] + asked["copy"], asked["get"] + asked["head"], asked["delete"])
        cells = [
            cost.what,
            *(f"{number:,.0f}" for number in numbers),
            *(_bytes(cost.written.get(where)) for where in ("commits", "lists")),
            f"{cost.cpu:.2f} s" if cost.cpu is not None else "",
            f"{cost.memory:,.0f}" if cost.memory is not None else "",
            f"{cost.seconds:,.2f} s",
            f"{dollars:,.5f}" if dollars < 0.01 else f"{dollars:,.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _bytes(count: float | None) -> str:
    if not count:
        return ""
    return (
        f"{count:,.0f} B" if count < 10_000 else f"{count / 1e3:,.0f} kB" if count < 1e7 else f"{count / 1e6:,.1f} MB"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--hosts", type=int, default=1_000)
    parser.add_argument("--commits", type=int, default=6, help="snapshots of a host in an hour")
    parser.add_argument("--put-price", type=float, default=0.005, help="US dollars for 1,000 PUT, COPY, POST or LIST")
    parser.add_argument("--get-price", type=float, default=0.0004, help="US dollars for 1,000 GET or HEAD")
    parser.add_argument("--markdown", type=Path, help="where to write it; printed without")
    options = parser.parse_args(arguments)
    text = report(options)
    if options.markdown is None:
        print(text)
    else:
        options.markdown.write_text(text)


if __name__ == "__main__":
    main()
