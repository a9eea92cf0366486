"""Of several hosts the first one alone asks until when all have reported; each host deletes its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.unit.attempts.test_several_hosts import Host, Job, shards
from tests.unit.job import Reads

from holdfast.errors import AccessDeniedError
from holdfast.snapshot import keys
from holdfast.store.directory.store import DirectoryStore


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with ThreadPoolExecutor(4) as workers:
        yield Job(tmp_path, workers)


def train(job: Job, hosts: list[Host], steps: range = range(6), *, tidies: bool = True) -> None:
    for step in steps:
        job.later(300)
        shards(job, *hosts, name="last", content=b"step %d" % step)
        for host in hosts:
            host.syncer.sync(host.syncer.scan())
        job.later(60)
        for host in hosts:
            host.syncer.repeat()
            if tidies:
                host.syncer.tidy()


def records(job: Job, host: str) -> list[str]:
    names = sorted(path.name for path in (job._root / "store/.holdfast/commits").iterdir())
    return [name for name in names if name.endswith(f"@{host}.json")]


def note(job: Job) -> Path:
    return job._root / "store" / keys.REPORTED


def test_no_host_but_the_first_reads_the_records_of_others(job: Job) -> None:
    read: list[str] = []
    job.store = Reads(job._root / "store", read.append)
    one, two, three = job.begin_all("first", "a", "b", "c")
    train(job, [one, two, three])
    del read[:]
    job.later(60)
    shards(job, one, two, three, name="last", content=b"more")
    for host in (one, two, three):
        host.sync()
        assert not [key for key in read if key.startswith(keys.COMMITS)] or host is one
        assert keys.REPORTED in read or host is one
        del read[:]
    assert [len(records(job, host)) for host in "abc"] == [2, 2, 2]


@pytest.mark.parametrize("text", [None, "{", "[]", '{"format": 1, "attempt": 2, "until": "2126-01-01T00:00:00+00:00"}'])
def test_without_an_answer_of_this_attempt_nothing_goes(job: Job, text: str | None) -> None:
    one, two = job.begin_all("first", "a", "b")
    train(job, [one, two], tidies=False)
    if text is not None:
        note(job).write_text(text)
    before = records(job, "b")
    two.syncer.tidy()
    newest_of_each = [name for name in before if int(name[7:13]) % 2 == 0]  # the others are said again
    assert records(job, "b") == newest_of_each
    one.syncer.tidy()
    assert json.loads(note(job).read_text())["attempt"] == 1
    job.later(60)
    two.syncer.repeat()
    two.syncer.tidy()
    assert len(records(job, "b")) < len(newest_of_each)


def test_what_a_first_host_that_is_dead_may_still_need_stays(job: Job) -> None:
    one, two = job.begin_all("first", "a", "b")
    train(job, [one, two], range(3))
    train(job, [two], range(3, 8))  # the first host is gone
    assert len(records(job, "b")) >= 6
    for host in job.begin_all("second", "a", "b"):
        assert host.files() == {"last/shard-a": b"step 2", "last/shard-b": b"step 2"}


def test_an_old_answer_keeps_what_a_new_one_keeps(job: Job) -> None:
    one, two = job.begin_all("first", "a", "b")
    train(job, [one, two], range(3))
    old = note(job).read_text()
    train(job, [one, two], range(3, 6), tidies=False)
    one.syncer.tidy()
    new = note(job).read_text()
    note(job).write_text(old)  # a first host that is slow
    two.syncer.tidy()
    kept = records(job, "b")
    note(job).write_text(new)
    job.later(60)
    two.syncer.repeat()
    two.syncer.tidy()
    assert len(records(job, "b")) == 2 < len(kept)
    for host in job.begin_all("second", "a", "b"):
        assert host.files() == {"last/shard-a": b"step 5", "last/shard-b": b"step 5"}


def test_the_reports_of_a_host_leave_a_few_records_whatever_the_others_report(job: Job) -> None:
    one, two = job.begin_all("first", "a", "b")
    train(job, [one, two], range(1), tidies=False)
    for _ in range(20):
        job.later(60)
        two.syncer.repeat()
        two.syncer.tidy()
    assert len(records(job, "b")) == 4
    for host in job.begin_all("second", "a", "b"):
        assert host.files() == {"last/shard-a": b"step 0", "last/shard-b": b"step 0"}


def test_plain_keys_follow_also_where_the_store_lets_nothing_be_deleted(job: Job) -> None:
    class Undeletable(DirectoryStore):
        def delete(self, key: str, *, etag: str | None = None) -> None:
            raise AccessDeniedError("not allowed to delete")

    job.store = Undeletable(job._root / "store")
    one, two = job.begin_all("first", "a", "b")
    train(job, [one, two], range(1), tidies=False)
    for _ in range(6):
        job.later(60)
        two.syncer.repeat()
    shards(job, two, name="last", content=b"changed")
    two.syncer.sync(two.syncer.scan())
    with pytest.raises(AccessDeniedError):
        two.syncer.tidy()
    assert (job._root / "store/last/shard-b").read_bytes() == b"changed"


def test_many_hosts_plan_seldom_and_once_more_when_their_script_has_ended(job: Job) -> None:
    read: list[str] = []
    job.store = Reads(job._root / "store", read.append)
    hosts = job.begin_all("first", *(f"host-{number:02d}" for number in range(40)))
    looks = 0
    for minute in range(4):
        job.later(60)
        for host in hosts:
            host.write(f"own-{host.attempt.host}", b"%d" % minute, job.now)
            host.syncer.sync(host.syncer.scan())
        del read[:]
        hosts[0].syncer.tidy()
        looks += any(key.startswith(keys.COMMITS) for key in read)
    assert looks == 2, "80 s between two looks"
    hosts[0].syncer.repeat(ended=True)
    hosts[0].syncer.tidy()
    del read[:]
    hosts[1].syncer.tidy()
    assert keys.REPORTED in read
