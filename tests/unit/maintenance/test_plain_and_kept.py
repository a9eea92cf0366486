"""Plain keys follow the newest snapshot, and what no kept snapshot needs is deleted; never anything else."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.logs import Logged
from tests.unit.job import Breaks, Job, sync

from holdfast.errors import PermanentStoreError, TransientStoreError
from holdfast.maintenance.retention import Retention
from holdfast.snapshot import catalog
from holdfast.stop import NEVER
from holdfast.store import Content, Part
from holdfast.store.directory.store import DirectoryStore
from holdfast.sync.flush import Flush
from holdfast.sync.syncer import Syncer


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with ThreadPoolExecutor(4) as workers:
        yield Job(tmp_path, workers)


def stored(job: Job, below: str = "") -> dict[str, bytes]:
    """Return every object of the store that is content."""
    root = job.root / "store"
    own = tuple(f".holdfast/{name}/" for name in ("attempts", "commits", "locks", "metadata", "tmp", "uploads"))
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return {key: path.read_bytes() for key, path in found.items() if not key.startswith(own) and key.startswith(below)}


def test_an_overwritten_file_reaches_its_plain_key_and_the_older_snapshot_stays_whole(job: Job) -> None:
    syncer = job.syncer("one")
    job.write("last.ckpt", b"first")
    first = sync(syncer).snapshot
    syncer.tidy()
    job.write("last.ckpt", b"second")
    sync(syncer)
    assert stored(job)["last.ckpt"] == b"first"
    syncer.tidy()
    assert stored(job)["last.ckpt"] == b"second"
    assert first is not None
    job.restore("old", only=[first.name])
    assert (job.root / "old/last.ckpt").read_bytes() == b"first"
    job.restore("new")
    assert (job.root / "new/last.ckpt").read_bytes() == b"second"


def test_only_the_last_snapshots_are_kept_with_all_they_need_and_nothing_else(job: Job) -> None:
    syncer = job.syncer("one", retention=Retention(last=2))
    job.write("fixed", b"always the same")
    for number in range(8):
        job.write("last.ckpt", b"%d" % number * 10)
        job.write(f"step-{number}", b"step %d" % number)
        if number >= 2:
            (job.root / f"one/step-{number - 2}").unlink()
        sync(syncer)
        syncer.tidy()
    names = catalog.read_catalog(job.store).snapshots
    assert names == ("000001-000007", "000001-000008")
    for name, number in zip(names, (6, 7), strict=True):
        machine = f"from {name}"
        job.restore(machine, only=[name])
        held = {path.name: path.read_bytes() for path in (job.root / machine).iterdir() if path.is_file()}
        assert held == {
            "fixed": b"always the same",
            "last.ckpt": b"%d" % number * 10,
            f"step-{number}": b"step %d" % number,
            f"step-{number - 1}": b"step %d" % (number - 1),
        }
    assert {key for key in stored(job) if not key.startswith(".holdfast")} == {
        "fixed", "last.ckpt", "step-5", "step-6", "step-7",
    }  # fmt: skip
    assert len(stored(job, ".holdfast")) <= 2, "the versions of last.ckpt that two snapshots need, and no more"


def test_a_file_that_stays_as_it_was_copied_is_stored_once_in_the_end(job: Job) -> None:
    syncer = job.syncer("one", retention=Retention(last=1))
    job.write("model", b"first")
    sync(syncer)
    job.write("model", b"second")
    sync(syncer)
    syncer.tidy()
    job.write("other", b"x")
    sync(syncer)
    syncer.tidy()
    assert stored(job) == {"model": b"second", "other": b"x"}
    job.restore("two")
    assert (job.root / "two/model").read_bytes() == b"second"


def test_a_renamed_file_keeps_its_content_when_its_old_name_is_used_again(job: Job) -> None:
    syncer = job.syncer("one", retention=Retention(last=1))
    job.write("last", b"epoch 1")
    sync(syncer)
    (job.root / "one/last").rename(job.root / "one/best")
    job.write("last", b"epoch 2")
    sync(syncer)
    syncer.tidy()
    for content in (b"epoch 3", b"epoch 4"):
        job.write("last", content)
        sync(syncer)
        syncer.tidy()
    job.restore("two")
    assert (job.root / "two/best").read_bytes() == b"epoch 1"
    assert (job.root / "two/last").read_bytes() == b"epoch 4"
    plain = {key: content for key, content in stored(job).items() if not key.startswith(".holdfast")}
    assert plain == {"best": b"epoch 1", "last": b"epoch 4"}


def test_what_others_wrote_is_preserved_while_needed_and_never_deleted(job: Job) -> None:
    (job.root / "store/theirs").write_bytes(b"theirs")
    (job.root / "store/unused").write_bytes(b"untouched")
    syncer = job.syncer("one", retention=Retention(last=1))
    (job.root / "one/unused").unlink()
    job.write("theirs", b"ours now")
    sync(syncer)
    syncer.tidy()
    assert stored(job)["theirs"] == b"ours now", "the script has overwritten it, as it would on SageMaker"
    assert stored(job)["unused"] == b"untouched"


def test_mirror_deletes_what_the_script_deleted_also_foreign_objects(job: Job) -> None:
    (job.root / "store/theirs").write_bytes(b"theirs")
    syncer = job.syncer("one", retention=Retention(last=1, mirror=True))
    job.write("ours", b"ours")
    job.write("kept", b"kept")
    sync(syncer)
    syncer.tidy()
    (job.root / "one/ours").unlink()
    (job.root / "one/theirs").unlink()
    sync(syncer)
    syncer.tidy()
    assert stored(job) == {"kept": b"kept"}


def test_orphans_of_a_dead_attempt_are_swept_by_the_next_one_after_its_first_commit(job: Job) -> None:
    def fail_at_the_second_record(key: str) -> None:
        if key.endswith("commits/000001-000002.json"):
            raise PermanentStoreError("the machine is gone")

    first = job.syncer("one", Breaks(job.root / "store", fail_at_the_second_record))
    job.write("model", b"first")
    sync(first)
    job.write("model", b"orphan")
    with pytest.raises(PermanentStoreError):
        sync(first)
    second = job.syncer("two")
    second.tidy()
    assert b"orphan" in stored(job).values(), "before its first commit an attempt deletes nothing"
    job.write("model", b"second", "two")
    sync(second)
    second.tidy()
    assert b"orphan" not in stored(job).values()
    assert stored(job)["model"] == b"second"


def test_a_job_below_another_jobs_prefix_is_left_alone(job: Job) -> None:
    below = Job.__new__(Job)
    below.root, below.workers, below.drivers = job.root / "below", job.workers, None
    (below.root / "two").mkdir(parents=True)
    below.store = DirectoryStore(job.root / "store/jobs/42")
    (job.root / "store/jobs").mkdir()
    theirs = below.syncer("one")
    below.write("model", b"theirs")
    sync(theirs)
    before = stored(job, "jobs/")
    for number in range(3):
        ours = job.syncer(f"machine-{number}", retention=Retention(last=1, mirror=True))
        assert job.restore(f"machine-{number}").base.files.keys() <= {"ours"}, "nothing of theirs is taken in"
        for content in (b"1", b"2"):
            job.write("ours", content + b"%d" % number, f"machine-{number}")
            sync(ours)
            ours.tidy()
    assert stored(job, "jobs/") == before
    below.restore("two")
    assert (below.root / "two/model").read_bytes() == b"theirs"


def test_what_was_sent_and_changed_meanwhile_is_deleted_after_the_next_commit(job: Job) -> None:
    times = iter(range(1))

    def grows(key: str) -> None:
        if key.endswith("train.log") and next(times, None) is not None:
            with (job.root / "one/train.log").open("ab") as log:
                log.write(b"more")

    class Late(Breaks):
        def put(self, key: str, part: Part, **options: Any) -> str:
            etag = DirectoryStore.put(self, key, part, **options)
            grows(key)
            return etag

    syncer = job.syncer("one", Late(job.root / "store", grows))
    job.write("train.log", b"first")
    assert sync(syncer).snapshot is None
    assert b"first" in stored(job).values()
    sync(syncer)
    syncer.tidy()
    assert set(stored(job).values()) == {b"firstmore"}


def test_the_steps_of_a_flush_do_not_push_older_snapshots_out(job: Job) -> None:
    syncer = job.syncer("one", retention=Retention(last=2))
    job.write("last", b"before")
    first = sync(syncer).snapshot
    assert first is not None
    for number in range(4):
        job.write(f"step-{number}/model", b"%d" % number)
    job.write("last", b"after")
    Flush(syncer, stop=NEVER).once(syncer.scan(), [])
    syncer.tidy()
    names = catalog.read_catalog(job.store).snapshots
    assert len(names) == 2
    job.restore("old", only=[first.name])
    assert (job.root / "old/last").read_bytes() == b"before"


def test_steps_that_nothing_whole_follows_push_out_nothing_and_are_no_more_than_the_policy_says(job: Job) -> None:
    syncer = job.syncer("one", retention=Retention(last=2))
    job.write("last", b"whole 1")
    sync(syncer)
    job.write("last", b"whole 2")
    sync(syncer)
    job.write("big/part", b"still being written")
    for number in range(6):
        job.write("last", b"step %d" % number)
        sync(syncer, held=("big/part",))
        syncer.tidy()
    assert catalog.read_catalog(job.store).snapshots == tuple(f"000001-00000{number}" for number in (1, 2, 7, 8))


class Answers(DirectoryStore):
    """A store on a real directory of which some answers get lost, and which refuses some requests for good.

    Attributes:
        lose: says whether the answer to a request gets lost, by method and key; what was asked is done.
        refuse: says whether it is refused.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.lose: Callable[[str, str], bool] = lambda method, key: False
        self.refuse: Callable[[str, str], bool] = lambda method, key: False

    def _answer(self, method: str, key: str) -> None:
        if self.lose(method, key):
            raise TransientStoreError("no answer")

    def copy(self, source: Content, key: str, **options: Any) -> str:
        if self.refuse("copy", key):
            raise PermanentStoreError("not this name")
        etag = super().copy(source, key, **options)
        self._answer("copy", key)
        return etag

    def delete(self, key: str, *, etag: str | None = None) -> None:
        if self.refuse("delete", key):
            raise PermanentStoreError("not this name")
        super().delete(key, etag=etag)
        self._answer("delete", key)


@pytest.fixture
def answers(job: Job) -> Answers:
    return Answers(job.root / "store")


def tidy_unanswered(syncer: Syncer, answers: Answers, lose: Callable[[str, str], bool]) -> None:
    """Tidy while the answers to some requests, each by its method and key, are lost."""
    answers.lose = lose
    with pytest.raises(TransientStoreError):
        syncer.tidy()
    answers.lose = lambda method, key: False


def at_plain_keys(job: Job) -> dict[str, bytes]:
    return {key: content for key, content in stored(job).items() if not key.startswith(".holdfast/")}


def check(job: Job) -> None:
    """Restore the newest snapshot, and see that it is what the machine has."""
    shutil.rmtree(job.root / "check", ignore_errors=True)
    job.restore("check")
    for path in (job.root / "one").rglob("*"):
        if path.is_file() and ".holdfast" not in path.parts:
            assert (job.root / "check" / path.relative_to(job.root / "one")).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("lost", ["the first deletion", "all deletions"])
def test_content_whose_deletion_had_no_answer_is_sent_again_when_a_file_has_it(
    job: Job, answers: Answers, lost: str
) -> None:
    syncer = job.syncer("one", answers, retention=Retention(last=1))
    for path in ("a", "b", "c", "d"):
        job.write(path, f"old {path}".encode())
    job.write("model", b"first")
    sync(syncer)
    job.write("model", b"second")
    sync(syncer)
    job.write("model", b"third")
    for path in ("a", "b", "c", "d"):
        (job.root / "one" / path).unlink()
    sync(syncer)
    deletions = iter(range(1))
    tidy_unanswered(
        syncer,
        answers,
        lambda method, key: (
            method == "delete"
            and "commits" not in key
            and (lost == "all deletions" or next(deletions, None) is not None)
        ),
    )
    for path in ("a", "b", "c", "d"):
        job.write(f"again {path}", f"old {path}".encode())
    job.write("second again", b"second")
    sync(syncer)
    check(job)
    syncer.tidy()
    check(job)
    assert sorted(set(stored(job).values())) == sorted({b"second", b"third", *(b"old %c" % c for c in b"abcd")})


def test_a_record_whose_deletion_had_no_answer_is_let_go_with_all_it_needed(job: Job, answers: Answers) -> None:
    syncer = job.syncer("one", answers, retention=Retention(last=1))
    job.write("model", b"first")
    sync(syncer)
    (job.root / "one/model").unlink()
    job.write("other", b"second")
    sync(syncer)
    tidy_unanswered(syncer, answers, lambda method, key: method == "delete")
    syncer.tidy()
    assert stored(job) == {"other": b"second"}


def test_a_plain_key_whose_copy_had_no_answer_is_named_by_no_record_before_it_is_known_what_it_has(
    job: Job, answers: Answers
) -> None:
    syncer = job.syncer("one", answers, retention=Retention(last=1))
    job.write("model", b"first")
    sync(syncer)
    job.write("model", b"second")
    sync(syncer)
    syncer.tidy()
    job.write("model", b"third")
    sync(syncer)
    tidy_unanswered(syncer, answers, lambda method, key: method == "copy" and key == "model")
    job.write("model", b"second")
    sync(syncer)
    check(job)
    syncer.tidy()
    job.write("beside", b"makes a snapshot")
    sync(syncer)
    check(job)
    syncer.tidy()
    assert stored(job) == {"model": b"second", "beside": b"makes a snapshot"}


def test_a_deletion_without_an_answer_leaves_the_plain_key_for_new_content(job: Job, answers: Answers) -> None:
    syncer = job.syncer("one", answers, retention=Retention(last=1))
    job.write("model", b"first")
    job.write("beside", b"1")
    sync(syncer)
    (job.root / "one/model").unlink()
    sync(syncer)
    tidy_unanswered(syncer, answers, lambda method, key: method == "delete" and key == "model")
    job.write("model", b"second")
    sync(syncer)
    check(job)
    syncer.tidy()
    job.write("beside", b"2")
    sync(syncer)
    syncer.tidy()
    assert at_plain_keys(job) == {"model": b"second", "beside": b"2"}


def test_a_name_that_cannot_be_published_or_deleted_holds_back_no_other_and_is_told_once(
    job: Job, answers: Answers, logged: Logged
) -> None:
    answers.refuse = lambda method, key: key == "a"
    syncer = job.syncer("one", answers, retention=Retention(last=1))
    for content in (b"1", b"2", b"3"):
        for path in ("a", "b", f"step-{content.decode()}"):
            job.write(path, content + path.encode())
        sync(syncer)
        syncer.tidy()
        check(job)
    assert stored(job)["b"] == b"3b"
    assert [text for text in logged() if "'a'" in text] == ["'a' stays below .holdfast/ in the store: not this name"]
    for path in ("a", "b", "step-1"):
        (job.root / "one" / path).unlink()
    for content in (b"4", b"5"):
        job.write("c", content)
        sync(syncer)
        syncer.tidy()
    assert at_plain_keys(job) == {"a": b"1a", "c": b"5", "step-2": b"2step-2", "step-3": b"3step-3"}
    assert len([text for text in logged() if "'a' is no longer kept and cannot be deleted" in text]) == 1


def test_a_directory_in_the_way_of_a_file_leaves_the_file_at_its_content_key(job: Job, logged: Logged) -> None:
    syncer = job.syncer("one", retention=Retention(last=1))
    job.write("shape/shard", b"a directory")
    sync(syncer)
    shutil.rmtree(job.root / "one/shape")
    for content in (b"a file", b"another"):
        job.write("shape", content)
        job.write("z", content)
        assert sync(syncer).unfinished == {}
        syncer.tidy()
        check(job)
    assert stored(job)["z"] == b"another"
    assert len([text for text in logged() if "'shape' stays below .holdfast/" in text]) == 1
    assert "shape/shard" not in stored(job)
