"""A flush makes durable what it can: a real directory at the end of a line with a clock of its own."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from tests.logs import Logged
from tests.unit.job import Job, sync

from holdfast.errors import AccessDeniedError, PermanentStoreError, TransientStoreError
from holdfast.stop import NEVER, StoppedError, StopToken
from holdfast.store import Condition, Metadata, Part
from holdfast.store.directory.store import DirectoryStore
from holdfast.sync import flush as flushing
from holdfast.sync.flush import Flush
from holdfast.sync.syncer import Syncer
from holdfast.workers.bandwidth import Bandwidth
from holdfast_entrypoint.report import Report

MIB = 1 << 20


class Line(DirectoryStore):
    """A store at the end of a line that takes so many MiB a second, by a clock of its own; a commit takes none.

    Attributes:
        now: seconds.
        end: when the line is cut.
        rate: MiB per second.
        puts: keys in the order in which they came.
        before: called before each put.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.now, self.end, self.rate = 0.0, math.inf, 10.0
        self.puts: list[str] = []
        self.before: Callable[[str], None] = lambda key: None

    def put(self, key: str, part: Part, *, metadata: Metadata | None = None, condition: Condition | None = None) -> str:
        self.before(key)
        commit = key.startswith((".holdfast/snapshots", ".holdfast/commits"))
        took = 0 if commit else part.size / MIB / self.rate
        if self.now + took > self.end:
            self.now = self.end
            raise TransientStoreError("cut off")
        self.now += took
        self.puts.append("commit" if commit else key)
        return super().put(key, part, metadata=metadata, condition=condition)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with ThreadPoolExecutor(1) as workers:  # one file after the other: the clock is one
        yield Job(tmp_path, workers)


@pytest.fixture
def line(job: Job) -> Line:
    return Line(job.root / "store")


@pytest.fixture
def syncer(job: Job, line: Line) -> Syncer:
    """A syncer that has sent 20 MiB over the line already."""
    syncer = job.syncer("one", line, bandwidth=Bandwidth(lambda: line.now))
    write(job, "first", 20, 1)
    sync(syncer)
    line.puts.clear()
    return syncer


def write(job: Job, path: str, mib: float, at: int) -> None:
    os.utime(job.write(path, os.urandom(int(mib * MIB))), (at, at))


def flush(syncer: Syncer, line: Line, seconds: float) -> Flush:
    """Flush with so many seconds left."""
    line.end = line.now + seconds
    made = Flush(syncer, stop=StopToken(seconds_left=lambda: line.end - line.now))
    with suppress(TransientStoreError):
        made.once(syncer.scan(), ())
    return made


def test_the_newest_checkpoint_goes_first_as_long_as_it_fits(job: Job, line: Line, syncer: Syncer) -> None:
    write(job, "old/a", 20, 100)
    write(job, "new/a", 20, 200)
    done = flush(syncer, line, 3)
    assert line.puts[:2] == ["new/a", "commit"]
    assert "new" in done.ledger().stored


def test_an_older_checkpoint_goes_first_when_the_newest_cannot_make_it(job: Job, line: Line, syncer: Syncer) -> None:
    write(job, "old/a", 10, 100)
    write(job, "new/a", 50, 200)
    write(job, "new/b", 50, 200)
    ledger = flush(syncer, line, 4).ledger()
    assert line.puts == ["old/a", "commit"]  # and what was left of the time went into the newest
    assert line.now == line.end
    assert ledger.stored == {"old": 10 * MIB}
    assert ledger.missed == {"new": 100 * MIB}
    assert "'new' (104,857,600 bytes)" in ledger.summary


def test_of_those_that_fit_the_newest_go_first_and_the_rest_is_named(job: Job, line: Line, syncer: Syncer) -> None:
    for number, mib in enumerate((10, 10, 10, 60, 10)):
        write(job, f"step-{number}/a", mib, 100 + number)
        write(job, f"step-{number}/b", mib, 100 + number)
    ledger = flush(syncer, line, 6).ledger()
    assert list(ledger.stored) == ["step-4", "step-2"]
    assert sorted(ledger.missed) == ["step-0", "step-1", "step-3"]


def test_new_files_at_the_top_level_are_checkpoints_of_their_own_when_there_is_no_time_for_all(
    job: Job, line: Line, syncer: Syncer
) -> None:
    write(job, "step-1.pt", 10, 100)
    write(job, "step-1.json", 1, 100)
    write(job, "step-2.pt", 60, 200)
    ledger = flush(syncer, line, 3).ledger()
    assert ledger.stored.keys() == {"step-1.pt", "step-1.json"}
    assert sorted(line.puts[:2]) == ["step-1.json", "step-1.pt"]
    assert line.puts[2] == "commit"


def test_files_that_are_overwritten_side_by_side_stay_together_even_when_there_is_no_time(
    job: Job, line: Line, syncer: Syncer
) -> None:
    write(job, "weights", 1, 100)
    write(job, "weights.json", 1, 100)
    sync(syncer)
    line.puts.clear()
    write(job, "weights", 60, 300)
    write(job, "weights.json", 1, 200)
    ledger = flush(syncer, line, 3).ledger()
    assert ledger.stored == {}
    assert ledger.missed.keys() == {"weights", "weights.json"}
    report = job.root / "report.json"
    Report(flush=ledger).write(report)
    assert json.loads(report.read_text())["flush"]["missed"] == {"weights": 60 * MIB, "weights.json": MIB}


@pytest.mark.parametrize("end", ["the time is up", "the store refuses it"])
def test_when_one_of_several_overwritten_files_does_not_make_it_none_is_committed_but_new_ones_are(
    job: Job, line: Line, syncer: Syncer, end: str
) -> None:
    def refuse(key: str) -> None:
        if key.endswith("weights.json") and end == "the store refuses it":
            raise PermanentStoreError("not this name")

    for path in ("weights", "weights.json"):
        write(job, path, 1, 100)
    before = sync(syncer).snapshot
    assert before is not None
    line.puts.clear()
    line.before = refuse
    write(job, "new", 1, 400)
    write(job, "weights", 1, 300)
    write(job, "weights.json", 1, 200)
    synced = sync(syncer, stop=StopToken(when=lambda: end == "the time is up" and len(line.puts) == 2))
    assert line.puts[-2].endswith("weights"), "one of the two has travelled"
    assert synced.snapshot is not None
    assert synced.snapshot.files.keys() == {*before.files, "new"}
    assert synced.snapshot.files.items() >= before.files.items()
    assert not synced.snapshot.complete
    assert synced.unfinished.keys() == {"weights", "weights.json"}
    line.before = lambda key: None
    assert sync(syncer).bytes_uploaded == MIB, "and the one that has travelled does not travel again"
    job.restore("two")
    for path in ("weights", "weights.json"):
        assert (job.root / "two" / path).read_bytes() == (job.root / "one" / path).read_bytes()


def test_a_transfer_that_has_become_too_slow_gives_way_to_one_that_still_fits_and_goes_on_behind_it(
    job: Job, line: Line, syncer: Syncer
) -> None:
    for number in range(30):
        write(job, f"new/{number:02}", 1, 200)
    write(job, "old/a", 2, 100)
    line.rate = 1.0
    ledger = flush(syncer, line, 20).ledger()
    first_commit = line.puts.index("commit")
    assert line.puts[first_commit - 1] == "old/a"
    assert 0 < first_commit - 1 < 15  # files of the newest went before it …
    assert len(set(line.puts)) == len([put for put in line.puts if put != "commit"]) + 1  # … and none went twice
    assert line.puts[-1].startswith("new/")
    assert ledger.stored == {"old": 2 * MIB}
    assert list(ledger.missed) == ["new"]
    assert ledger.short == pytest.approx(12, abs=3)


def test_small_checkpoints_share_a_commit_once_the_newest_is_stored(job: Job, line: Line, syncer: Syncer) -> None:
    for number in range(50):
        write(job, f"step-{number:02}/a", 0.001, 100 + number)
    flush(syncer, line, math.inf)
    assert line.puts[:2] == ["step-49/a", "commit"]
    assert line.puts.count("commit") == 2


def test_without_any_time_nothing_is_sent_and_all_is_named(job: Job, line: Line, syncer: Syncer) -> None:
    write(job, "new/a", 1, 100)
    write(job, "old/a", 1, 50)
    done = Flush(syncer, stop=StopToken(seconds_left=lambda: 0.0))
    unfinished = done.once(syncer.scan(), ()).unfinished
    assert line.puts == []
    assert unfinished.keys() == {"new/a", "old/a"}
    assert all(isinstance(error, StoppedError) for error in unfinished.values())


def test_what_is_held_back_is_neither_sent_nor_missed(job: Job, line: Line, syncer: Syncer) -> None:
    write(job, "half/a", 1, 200)
    write(job, "whole/a", 1, 100)
    done = Flush(syncer, stop=NEVER)
    done.once(syncer.scan(), ["half/a"])
    assert done.ledger().stored.keys() == {"whole"}
    assert done.ledger().missed == {}
    assert "half/a" not in line.puts


def test_what_was_deleted_leaves_the_snapshot_in_a_flush_of_nothing_else(job: Job, syncer: Syncer) -> None:
    write(job, "other", 1, 100)
    sync(syncer)
    (job.root / "one/other").unlink()
    done = Flush(syncer, stop=NEVER).once(syncer.scan(), ())
    assert done.snapshot is not None
    assert list(done.snapshot.files) == ["first"]


@pytest.mark.parametrize("error", [AccessDeniedError("the token has expired"), TransientStoreError("busy")])
def test_what_a_store_refuses_for_a_while_is_stored_when_it_does_so_no_longer(
    job: Job, line: Line, syncer: Syncer, error: Exception, logged: Logged
) -> None:
    refused = iter([error])

    def refuse(key: str) -> None:
        for once in refused:
            raise once

    line.before = refuse
    write(job, "new/a", 1, 100)
    done = Flush(syncer, stop=NEVER)
    assert done.run(syncer.scan, ()).unfinished == {}
    assert any("is tried again in 2 s" in text and str(error) in text for text in logged())
    assert done.ledger().stored.keys() == {"new"}


def test_what_a_store_denies_to_the_end_of_the_time_is_an_error(job: Job, line: Line, syncer: Syncer) -> None:
    asked = []

    def deny(key: str) -> None:
        asked.append(key)
        raise AccessDeniedError("not allowed: allow s3:PutObject")

    line.before = deny
    write(job, "new/a", 1, 100)
    done = Flush(syncer, stop=StopToken(seconds_left=lambda: 100.0 if len(asked) < 2 else 0.0))
    with pytest.raises(AccessDeniedError):
        done.run(syncer.scan, ())
    assert len(asked) > 1
    assert done.ledger().missed.keys() == {"new"}


def test_what_is_denied_is_not_tried_for_ever_when_nobody_presses(
    job: Job, line: Line, syncer: Syncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushing, "DENIED_PATIENCE", 0.0)

    def deny(key: str) -> None:
        raise AccessDeniedError("not allowed")

    line.before = deny
    write(job, "new/a", 1, 100)
    with pytest.raises(AccessDeniedError):
        Flush(syncer, stop=NEVER).run(syncer.scan, ())


def test_a_flush_without_a_deadline_ends_though_the_store_refuses_one_of_several(
    job: Job, line: Line, syncer: Syncer
) -> None:
    refusals: list[str] = []

    def refuse(key: str) -> None:
        if key.endswith("weights.json"):
            refusals.append(key)
            assert len(refusals) < 20, "it goes on for ever"
            raise PermanentStoreError("not this name")

    for path in ("weights", "weights.json"):
        write(job, path, 1, 100)
    sync(syncer)
    line.before = refuse
    for path in ("weights", "weights.json"):
        write(job, path, 1, 200)
    synced = Flush(syncer, stop=NEVER).run(syncer.scan, ())
    assert {path: str(error) for path, error in synced.unfinished.items()} == {
        "weights": "it may belong to 'weights.json', which was not stored: not this name",
        "weights.json": "not this name",
    }
