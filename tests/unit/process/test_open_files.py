"""The files that a process has open for writing, read from /proc."""

import os
from pathlib import Path

from holdfast_entrypoint.process.open_files import open_for_writing


def test_files_open_for_writing_are_found_and_those_for_reading_are_not(tmp_path: Path) -> None:
    inside, outside = tmp_path / "checkpoints", tmp_path / "elsewhere"
    (inside / "step-1").mkdir(parents=True)
    outside.mkdir()
    (inside / "read.pt").write_bytes(b"1")
    with (
        (inside / "step-1/w.pt").open("wb"),
        (inside / "update.pt").open("wb+"),
        (inside / "read.pt").open("rb"),
        (outside / "other.pt").open("wb"),
    ):
        assert open_for_writing(os.getpid(), inside) == {"step-1/w.pt", "update.pt"}
    assert open_for_writing(os.getpid(), inside) == set()


def test_a_directory_that_is_reached_by_a_link_is_the_same_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with (tmp_path / "link/a.pt").open("wb"):
        assert open_for_writing(os.getpid(), tmp_path / "link") == {"a.pt"}


def test_a_process_that_has_ended_has_nothing_open(tmp_path: Path) -> None:
    assert open_for_writing(2**22 - 1, tmp_path) == set()
