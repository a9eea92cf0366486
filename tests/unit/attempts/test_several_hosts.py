"""Several hosts on one prefix: one attempt, one snapshot, and no checkpoint that some host has not finished."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.logs import Logged
from tests.unit.job import Reads

from holdfast.attempts import fence, rendezvous
from holdfast.attempts.claim import Claimant
from holdfast.attempts.rendezvous import Group
from holdfast.errors import SupersededError
from holdfast.maintenance.retention import Retention
from holdfast.restore.background import BackgroundRestore
from holdfast.restore.base import Base
from holdfast.restore.plan import SMALL, Mode
from holdfast.restore.request import Request, Restored
from holdfast.restore.restorer import restore
from holdfast.snapshot import candidates, catalog
from holdfast.snapshot.attempt import Attempt
from holdfast.snapshot.catalog import Catalog
from holdfast.stop import NEVER
from holdfast.store.directory.store import DirectoryStore
from holdfast.sync.assemble import Engine, assemble
from holdfast.sync.syncer import Syncer

START = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@dataclass
class Host:
    """One host in one life of the job."""

    directory: Path
    attempt: Attempt
    restored: Restored
    syncer: Syncer

    def write(self, path: str, content: bytes, at: datetime) -> None:
        target = self.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        os.utime(target, (at.timestamp(), at.timestamp()))

    def sync(self) -> None:
        self.syncer.sync(self.syncer.scan())
        self.syncer.tidy()

    def files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.directory).as_posix(): path.read_bytes()
            for path in self.directory.rglob("*")
            if path.is_file() and ".holdfast" not in path.parts
        }


class Job:
    """A prefix, and starts of a job of several hosts on it, with a clock that the test turns."""

    def __init__(self, root: Path, workers: ThreadPoolExecutor) -> None:
        self.now = START
        self._root = root
        self._workers = workers
        (root / "store").mkdir()
        self.store = DirectoryStore(root / "store")

    def later(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now

    def begin(self, run: str, *hosts: str, only: str | None = None, mode: Mode = Mode.ALL) -> Host:
        host = only or hosts[0]
        claimed, found, base = rendezvous.join(
            self.store, Group(hosts, run), Claimant(host, "0", "local"), clock=lambda: self.now,
            workers=self._workers,
        )  # fmt: skip
        found = fence.fence(self.store, found, claimed)
        directory = self._root / f"{run}-{host}"
        chosen = [candidates.of(self.store, found, base, self._workers)] if base else []
        request = Request(attempt=claimed, candidates=chosen, mode=mode)
        restored = restore(self.store, found, directory, request, workers=self._workers)
        syncer = assemble(
            Engine(store=self.store, workers=self._workers, clock=lambda: self.now),
            directory,
            claimed,
            restored.base,
            retention=Retention(last=2),
        )
        return Host(directory, claimed, restored, syncer)

    def begin_all(self, run: str, *hosts: str, mode: Mode = Mode.ALL) -> list[Host]:
        return [self.begin(run, *hosts, only=host, mode=mode) for host in hosts]

    def arrive(self, host: Host) -> None:
        """Let the older checkpoints arrive."""
        BackgroundRestore(
            self.store,
            host.directory,
            host.restored,
            deferred=host.syncer.deferred,
            located=host.syncer.changes.located,
            workers=self._workers,
            stop=NEVER,
        ).run()


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with ThreadPoolExecutor(4) as workers:
        yield Job(tmp_path, workers)


def shards(job: Job, *hosts: Host, name: str, content: bytes) -> None:
    for host in hosts:
        host.write(f"{name}/shard-{host.attempt.host}", content, job.later(1))


def test_every_host_gets_what_all_of_them_wrote(job: Job) -> None:
    one, two = job.begin_all("first", "a", "b")
    assert one.attempt.number == two.attempt.number == 1
    shards(job, one, two, name="step-1", content=b"1")
    one.sync()
    two.sync()
    for host in job.begin_all("second", "a", "b"):
        assert host.attempt.number == 2
        assert host.files() == {"step-1/shard-a": b"1", "step-1/shard-b": b"1"}


def test_each_host_gets_all_of_the_newest_checkpoint_first_and_what_is_absent_stays_whose_it_is(job: Job) -> None:
    hosts = job.begin_all("first", "a", "b")
    for name in ("step-1", "step-2"):
        shards(job, *hosts, name=name, content=name.encode() * SMALL)
        job.later(60)
        for host in hosts:
            host.sync()
    everything = {f"{name}/shard-{host}" for name in ("step-1", "step-2") for host in "ab"}
    again = job.begin_all("second", "a", "b", mode=Mode.LATEST)
    for host in again:
        assert host.files().keys() == {"step-2/shard-a", "step-2/shard-b"}
        assert host.syncer.changes.changed(host.syncer.scan()) == []
        assert host.syncer.changes.vanished(host.syncer.scan()) == []
    job.arrive(again[0])
    assert again[0].files().keys() == everything
    assert again[0].syncer.changes.changed(again[0].syncer.scan()) == []
    shards(job, *again, name="step-3", content=b"3")
    job.later(60)
    for host in again:
        host.sync()
    for host in job.begin_all("third", "a", "b"):
        assert host.files().keys() == everything | {"step-3/shard-a", "step-3/shard-b"}


def test_a_checkpoint_that_one_host_has_not_finished_is_restored_by_none(job: Job) -> None:
    one, two = job.begin_all("first", "a", "b")
    shards(job, one, two, name="step-1", content=b"1")
    one.write("latest", b"step-1", job.now)
    one.sync()
    two.sync()
    job.later(60)
    two.syncer.repeat()
    job.later(240)
    shards(job, one, two, name="step-2", content=b"2")
    one.write("latest", b"step-2", job.now)
    one.sync()  # host b is reclaimed before it commits
    for host in job.begin_all("second", "a", "b"):
        assert host.files() == {"latest": b"step-1", "step-1/shard-a": b"1", "step-1/shard-b": b"1"}


def test_shards_that_are_rewritten_in_place_are_never_mixed(job: Job) -> None:
    one, two = job.begin_all("first", "a", "b")
    for epoch in (b"epoch 1", b"epoch 2"):
        job.later(300)
        shards(job, one, two, name="last", content=epoch)
        one.sync()
        two.sync()
    job.later(300)
    shards(job, one, two, name="last", content=b"epoch 3")
    two.sync()
    for host in job.begin_all("second", "a", "b"):
        assert set(host.files().values()) == {b"epoch 2"}


@pytest.mark.parametrize(("says", "counts"), [("nothing", False), ("soon", False), ("later", True), ("ended", True)])
def test_a_checkpoint_of_one_host_counts_once_the_others_have_said_that_they_have_nothing_of_it(
    job: Job, says: str, counts: bool
) -> None:
    one, two = job.begin_all("first", "a", "b")
    two.syncer.repeat()
    job.later(100)
    one.write("step-1/model", b"1", job.now)
    one.sync()
    job.later({"soon": 5, "later": 60}.get(says, 0))
    if says != "nothing":
        two.syncer.repeat(ended=says == "ended")
    for host in job.begin_all("second", "a", "b"):
        assert host.files() == ({"step-1/model": b"1"} if counts else {})


def test_a_commit_while_something_is_held_back_says_nothing_of_the_rest(job: Job) -> None:
    one, two = job.begin_all("first", "a", "b")
    shards(job, one, two, name="step-1", content=b"1")
    one.sync()
    two.sync()
    job.later(300)
    shards(job, two, name="step-2", content=b"2")
    two.sync()
    one.write("step-2/shard-a", b"half", job.now)
    one.write("step-2/metrics.jsonl", b"a log", job.later(60))
    one.write("metrics.jsonl", b"a log", job.now)
    one.syncer.sync(one.syncer.scan(), ["step-2/shard-a"])  # still being written; the log is not
    for host in job.begin_all("second", "a", "b"):
        assert not [path for path in host.files() if path.startswith("step-2/shard")]


def test_a_host_that_arrives_while_others_train_restores_what_they_restored(job: Job) -> None:
    one, two = job.begin_all("first", "a", "b")
    shards(job, one, two, name="step-1", content=b"1")
    for host in (one, two):
        host.sync()
        host.syncer.repeat(ended=True)
    early = job.begin("second", "a", "b", only="a")
    job.later(300)
    early.write("step-2/shard-a", b"2", job.now)
    early.sync()
    late = job.begin("second", "a", "b", only="b")
    assert late.attempt.number == early.attempt.number
    assert late.files() == {"step-1/shard-a": b"1", "step-1/shard-b": b"1"}


def test_without_a_run_hosts_find_together_by_the_time(job: Job) -> None:
    group = ("a", "b")

    def begin(host: str) -> int:
        claimed, _, _ = rendezvous.join(
            job.store, Group(group), Claimant(host, "0", "local"), clock=lambda: job.now,
            workers=job._workers,
        )  # fmt: skip
        return claimed.number

    assert [begin("a"), begin("b")] == [1, 1]
    job.later(60)
    assert [begin("b"), begin("a")] == [2, 2]
    assert begin("a") == 3
    job.later(rendezvous.WINDOW + 1)
    assert begin("b") == 4


def test_sixteen_hosts_that_start_at_once_are_one_attempt_with_one_base(job: Job) -> None:
    hosts = tuple(f"host-{number}" for number in range(16))

    def begin(host: str) -> tuple[int, tuple[str, ...]]:
        claimed, _, base = rendezvous.join(
            job.store, Group(hosts, "run"), Claimant(host, "0", "local"), clock=lambda: job.now,
            workers=ThreadPoolExecutor(1),
        )  # fmt: skip
        return claimed.number, base

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(begin, hosts)) == {(1, ())}


def test_the_same_path_on_two_hosts_is_told_and_each_gets_its_own_back(job: Job, logged: Logged) -> None:
    one, two = job.begin_all("first", "a", "b")
    one.write("log/state.json", b"from a", job.later(1))
    two.write("log/state.json", b"from b!", job.later(1))
    for host in (one, two):
        host.sync()
        host.syncer.repeat(ended=True)
    assert any("other content on another host" in text for text in logged())
    again = job.begin_all("second", "a", "b")
    assert [host.files()["log/state.json"] for host in again] == [b"from a", b"from b!"]
    assert any("is different on a and b" in text for text in logged())


def test_who_begins_anew_ends_the_lives_of_all_hosts_and_who_joins_only_his_own(job: Job) -> None:
    one, two = job.begin_all("first", "a", "b")
    again = job.begin("second", "a", "b", only="a")
    for zombie in (one, two):
        zombie.write("x", b"zombie", job.now)
        with pytest.raises(SupersededError, match="attempt 2 on a"):
            zombie.sync()
    late = job.begin("second", "a", "b", only="b")
    assert late.attempt.number == again.attempt.number
    for host in (again, late):
        host.write(f"x-{host.attempt.host}", b"successor", job.now)
        host.sync()


def test_a_host_that_joins_a_start_that_is_over_is_ended_and_joins_the_next(job: Job) -> None:
    def begin(host: str, run: str | None = None) -> tuple[Attempt, Catalog]:
        claimed, found, _ = rendezvous.join(
            job.store, Group(("a", "b"), run), Claimant(host, "0", "local"), clock=lambda: job.now,
            workers=job._workers,
        )  # fmt: skip
        return claimed, fence.fence(job.store, found, claimed)

    assert begin("a")[0].number == 1  # b does not come up, and all are restarted
    job.later(60)
    stale, found = begin("b")
    assert stale.number == 1
    assert begin("a")[0].number == 2
    zombie = assemble(
        Engine(store=job.store, workers=job._workers, clock=lambda: job.now), job._root / "b", stale, Base(found=found)
    )
    with pytest.raises(SupersededError):
        zombie.repeat()
    assert begin("b")[0].number == 2


def test_what_the_attempt_began_from_stays_until_all_have_something_newer_in_common(job: Job) -> None:
    hosts = job.begin_all("first", "a", "b")
    shards(job, *hosts, name="step-1", content=b"1")
    for host in hosts:
        host.sync()
        host.syncer.repeat(ended=True)
    one, two = job.begin_all("second", "a", "b")
    for number in range(6):
        job.later(300)
        one.write(f"log-{number}.log", b"x", job.now)
        one.sync()
    two.write("step-2/shard-b", b"2", job.later(60))
    two.sync()
    job.later(120)
    one.write("last.log", b"x", job.now)
    one.sync()
    for host in job.begin_all("third", "a", "b"):
        assert host.files()["step-1/shard-a"] == host.files()["step-1/shard-b"] == b"1"


def test_a_host_that_comes_back_deletes_nothing_that_another_host_has_taken_over(job: Job) -> None:
    for run, names in (("first", ("a", "c")), ("second", ("a", "b")), ("third", ("a", "c"))):
        hosts = job.begin_all(run, *names)
        if run == "first":
            shards(job, *hosts, name="step-1", content=b"1")
        for host in hosts:
            host.write(f"of-{run}-{host.attempt.host}", b"x", job.later(1))
            host.sync()
        job.later(60)
        for host in hosts:
            host.syncer.repeat(ended=True)
            host.syncer.tidy()
    (found, _) = job.begin_all("fourth", "a", "c")
    assert {"step-1/shard-a", "step-1/shard-c"} <= found.files().keys()


def test_what_is_kept_is_what_the_slowest_host_may_still_need(job: Job) -> None:
    one, two = job.begin_all("first", "a", "b")
    shards(job, one, two, name="last", content=b"epoch 1")
    one.sync()
    two.sync()
    for epoch in range(2, 9):  # host b has fallen silent
        job.later(300)
        shards(job, one, name="last", content=b"epoch %d" % epoch)
        one.sync()
    for host in job.begin_all("second", "a", "b"):
        assert host.files() == {"last/shard-a": b"epoch 1", "last/shard-b": b"epoch 1"}


def test_old_snapshots_go_when_every_host_has_spoken(job: Job) -> None:
    hosts = job.begin_all("first", "a", "b")
    for epoch in range(8):
        job.later(300)
        shards(job, *hosts, name=f"step-{epoch}", content=b"%d" % epoch)
        for host in hosts:
            host.sync()
    for path in (job._root / "store/.holdfast/commits").iterdir():  # what the listing tells is the store's clock
        os.utime(path, (job.now.timestamp() + 60,) * 2)
    job.later(60)
    for host in hosts:
        host.syncer.repeat()
        host.syncer.tidy()
    names = sorted(path.name for path in (job._root / "store/.holdfast/commits").iterdir())
    # Of the eight snapshots of each host two stay: the newest as the record that says it again.
    assert names == [f"000001-00000{number}@{host}.json" for number in (7, 9) for host in "ab"]


def test_what_a_host_says_every_minute_names_the_list_that_it_has_put_once(job: Job) -> None:
    hosts = job.begin_all("first", "a", "b")
    for number in range(60):
        hosts[0].write(f"own/{number}", b"%d" % number, job.later(1))
    shards(job, *hosts, name="step", content=b"1")
    for host in hosts:
        host.sync()
    for _ in range(5):
        job.later(60)
        for host in hosts:
            host.syncer.repeat()
            host.syncer.tidy()
    root = job._root / "store/.holdfast"
    assert [path.relative_to(root).as_posix() for path in root.glob("lists/*/*")] == ["lists/000001-000002@a/1.json.gz"]
    repeated = (root / "commits/000001-000006@a.json").stat().st_size
    assert repeated < 1_000
    assert len(job.begin_all("second", "a", "b")[1].files()) == 62


def test_a_job_goes_from_one_host_to_several_and_back(job: Job) -> None:
    (alone,) = [job.begin("first", "a", "b", only="a")]
    del alone
    one, two = job.begin_all("second", "a", "b")
    shards(job, one, two, name="step-1", content=b"1")
    for host in (one, two):
        host.sync()
        host.syncer.repeat(ended=True)
    three = job.begin_all("third", "c", "d", "e")
    assert {tuple(sorted(host.files())) for host in three} == {("step-1/shard-a", "step-1/shard-b")}
    shards(job, *three, name="step-2", content=b"2")
    for host in three:
        host.sync()
        host.syncer.repeat(ended=True)
    found = job.begin_all("fourth", "c", "d", "e")
    assert sorted(found[2].files()) == [
        "step-1/shard-a", "step-1/shard-b", "step-2/shard-c", "step-2/shard-d", "step-2/shard-e",
    ]  # fmt: skip


def test_a_start_reads_no_more_records_of_each_host_than_it_takes_to_find_those_that_fit_together(job: Job) -> None:
    hosts = job.begin_all("first", "a", "b")
    for epoch in range(5):
        job.later(300)
        shards(job, *hosts, name=f"step-{epoch}", content=b"%d" % epoch)
        for host in hosts:
            host.syncer.sync(host.syncer.scan())
    read: list[str] = []
    store = Reads(job._root / "store", read.append)
    found = catalog.read_catalog(store)
    choices = candidates.newest_first(store, found, job._workers)
    assert isinstance(next(choices), candidates.Candidate)
    assert sorted(read) == [f".holdfast/commits/000001-000005@{host}.json" for host in "ab"]
    next(choices)
    assert len(read) == 4
