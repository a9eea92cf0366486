"""Whatever a script may put into its checkpoint directory: what of it comes back, and how, is what the page says."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.logs import Logged
from tests.unit.job import Job, sync

from holdfast.errors import ConfigError
from holdfast.local import scan as disk
from holdfast.restore.staging import refuse_if_same_file


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with ThreadPoolExecutor(4) as workers:
        yield Job(tmp_path, workers)


def back(job: Job) -> dict[str, bytes]:
    """Store machine one's directory, restore it on machine two, and return what is there."""
    sync(job.syncer("one"))
    job.restore("two")
    return {
        path.relative_to(job.root / "two").as_posix(): path.read_bytes()
        for path in sorted((job.root / "two").rglob("*"))
        if path.is_file() and ".holdfast" not in path.parts
    }


@pytest.mark.parametrize(
    "name",
    [
        "a file with spaces .pt",
        "modèle-最終-🚀.pt",
        "e\u0301 and \u00e9.pt",
        "quote ' and \" and \\ and $HOME and `x`",
        "percent %20 plus + question ? hash # ampersand & semicolon ; colon : at @",
        "-rf",
        "..hidden..",
        "tab\tand newline\n.pt",
        "bell\x07 and delete\x7f",
        "directory/with/many/levels/below/it/model.pt",
        "/".join(["d" * 90] * 10),
    ],
)
def test_a_name_comes_back_as_it_was(job: Job, name: str) -> None:
    job.write(name, b"content")
    assert back(job) == {name: b"content"}


def test_a_key_of_a_thousand_bytes_comes_back_also_when_it_is_overwritten(job: Job) -> None:
    name = "/".join(["ü" * 100] * 4) + "/" + "x" * 100
    syncer = job.syncer("one")
    for content in (b"1", b"2", b"3"):
        job.write(name, content)
        sync(syncer)
        syncer.tidy()
    assert back(job) == {name: b"3"}


def test_a_name_whose_key_would_be_too_long_is_left_out_and_named(job: Job, logged: Logged) -> None:
    job.write("/".join(["y" * 200] * 5), b"too long")
    job.write("short", b"taken")
    assert back(job) == {"short": b"taken"}
    assert any("longer than 1024 bytes" in text for text in logged())


def test_names_that_differ_in_case_only_are_two_files(job: Job) -> None:
    job.write("Model.pt", b"upper")
    job.write("model.pt", b"lower")
    assert back(job) == {"Model.pt": b"upper", "model.pt": b"lower"}


def test_a_file_system_that_takes_two_names_for_one_file_is_refused_with_both(tmp_path: Path) -> None:
    (tmp_path / "Model.pt").write_bytes(b"x")
    (tmp_path / "model.pt").hardlink_to(tmp_path / "Model.pt")  # what such a file system looks like from outside
    with pytest.raises(ConfigError, match=r"'Model\.pt' and 'model\.pt'"):
        refuse_if_same_file(tmp_path, ["Model.pt", "model.pt"])
    (tmp_path / "model.pt").unlink()
    (tmp_path / "model.pt").write_bytes(b"x")
    refuse_if_same_file(tmp_path, ["Model.pt", "model.pt"])


def test_empty_files_come_back_and_empty_directories_do_not(job: Job) -> None:
    job.write("done", b"")
    (job.root / "one/empty").mkdir()
    assert back(job) == {"done": b""}
    assert not (job.root / "two/empty").exists()


def test_modes_and_times_come_back_and_the_owner_can_always_write(job: Job) -> None:
    job.write("tool.sh", b"x").chmod(0o750)
    job.write("read only", b"x").chmod(0o444)
    os.utime(job.root / "one/tool.sh", ns=(1, 1_234_567_890_123_456_789))
    back(job)
    status = (job.root / "two/tool.sh").stat()
    assert stat.S_IMODE(status.st_mode) == 0o750
    assert status.st_mtime_ns == 1_234_567_890_123_456_789
    assert stat.S_IMODE((job.root / "two/read only").stat().st_mode) == 0o644


def test_a_link_inside_the_directory_comes_back_as_a_file_and_all_others_are_named(job: Job, logged: Logged) -> None:
    job.write("step-9/model", b"weights")
    (job.root / "one/last").symlink_to("step-9/model")
    (job.root / "one/latest").symlink_to("step-9")
    (job.root / "one/outside").symlink_to("/etc/hostname")
    (job.root / "one/broken").symlink_to("nowhere")
    assert back(job) == {"last": b"weights", "step-9/model": b"weights"}
    assert not (job.root / "two/last").is_symlink()
    for name, reason in (("latest", "link to a directory"), ("outside", "leaves"), ("broken", "broken link")):
        assert any(repr(name) in text and reason in text for text in logged())


def test_hard_links_are_files_whose_content_is_sent_once(job: Job) -> None:
    job.write("best", b"x" * 1000)
    (job.root / "one/last").hardlink_to(job.root / "one/best")
    syncer = job.syncer("one")
    assert sync(syncer).bytes_uploaded == 1000
    job.restore("two")
    assert (job.root / "two/best").read_bytes() == (job.root / "two/last").read_bytes() == b"x" * 1000


def test_a_sparse_file_comes_back_with_the_same_content(job: Job) -> None:
    with job.write("sparse", b"head").open("r+b") as file:
        file.truncate(3_000_000)
        file.seek(2_999_990)
        file.write(b"tail")
    assert (job.root / "one/sparse").stat().st_blocks * 512 < 3_000_000
    expected = (job.root / "one/sparse").read_bytes()
    assert back(job) == {"sparse": expected}


def test_what_is_no_file_is_left_out_and_named(job: Job, logged: Logged) -> None:
    job.write("model", b"x")
    os.mkfifo(job.root / "one/fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(job.root / "one/sock"))
        assert back(job) == {"model": b"x"}
    assert sum("no regular file" in text for text in logged()) == 2


def test_sagemakers_markers_are_ignored_both_ways(job: Job) -> None:
    for name in (
        "model.pt.sagemaker-uploading",
        "model.pt.sagemaker-uploaded",
        "x.sagemaker-ignore",
        "d.sagemaker-ignore-me/f",
        "d/model.sagemaker-uploaded",
    ):
        job.write(name, b"")
        (job.root / "store" / f"theirs-{name.replace('/', '-')}").write_bytes(b"")
    job.write("model.pt", b"x")
    assert back(job) == {"model.pt": b"x"}
    assert sorted(path.name for path in (job.root / "store").glob("model*")) == ["model.pt"]


def test_what_lies_in_a_directory_that_may_not_be_read_just_now_stays_in_the_snapshot(job: Job) -> None:
    syncer = job.syncer("one")
    job.write("step-1/model", b"1")
    job.write("last", b"1")
    sync(syncer)
    job.write("last", b"2")
    scan = replace(syncer.scan(), unreadable=frozenset({"step-1"}))
    del scan.files["step-1/model"]
    assert syncer.changes.vanished(scan) == []
    done = syncer.sync(scan)
    assert done.snapshot is not None
    assert sorted(done.snapshot.files) == ["last", "step-1/model"]


def test_a_directory_that_may_not_be_read_is_told_from_one_that_is_gone() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        place = Path(folder)
        place.chmod(0o755)
        (place / "closed").mkdir()
        (place / "file").touch()
        (place / "closed").chmod(0)
        scan = as_nobody(lambda: disk.scan(place))
        (place / "closed").chmod(0o700)
    assert list(scan.files) == ["file"]
    assert scan.unreadable == {"closed"}
    assert scan.left_out == {"closed": "it is a directory that may not be read"}


def as_nobody(work: Callable[[], disk.Scan]) -> disk.Scan:
    """Do work as a user who may not read everything; every user but root is one already."""
    if os.geteuid() != 0:
        return work()
    os.seteuid(65534)
    try:
        return work()
    finally:
        os.seteuid(0)
