"""What counts as a file of a checkpoint directory."""

import os
import socket
from pathlib import Path

from holdfast.local import scan


def test_files_are_found_at_every_depth_and_bookkeeping_is_not(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / ".holdfast/staging").mkdir(parents=True)
    for name in ("x.pt", "a/y.pt", "a/b/z.pt", ".holdfast/staging/s", "x.pt.sagemaker-uploading"):
        (tmp_path / name).write_bytes(b"1")
    assert sorted(scan.scan(tmp_path).files) == ["a/b/z.pt", "a/y.pt", "x.pt"]


def test_a_missing_directory_is_empty(tmp_path: Path) -> None:
    assert scan.scan(tmp_path / "none").files == {}


def test_a_link_to_a_file_inside_is_a_file_and_others_are_left_out_with_the_reason(tmp_path: Path) -> None:
    directory = tmp_path / "checkpoints"
    (directory / "step-1").mkdir(parents=True)
    (directory / "step-1/model.pt").write_bytes(b"12345")
    (tmp_path / "secret").write_text("outside")
    (directory / "last.pt").symlink_to("step-1/model.pt")
    (directory / "latest").symlink_to("step-1")
    (directory / "broken").symlink_to("nowhere")
    (directory / "escape").symlink_to("../secret")
    os.mkfifo(directory / "fifo")
    seen = scan.scan(directory)
    assert sorted(seen.files) == ["last.pt", "step-1/model.pt"]
    assert seen.files["last.pt"].size == 5
    assert sorted(seen.left_out) == ["broken", "escape", "fifo", "latest"]
    assert "leaves the checkpoint directory" in seen.left_out["escape"]


def test_a_socket_is_left_out(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(tmp_path / "s"))
        assert "no regular file" in scan.scan(tmp_path).left_out["s"]


def test_a_name_that_no_store_can_take_is_left_out(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"bad-\xff")).write_bytes(b"1")
    (tmp_path / ("d" * 200)).mkdir()
    (tmp_path / ("d" * 200) / ("f" * 200)).write_bytes(b"1")
    seen = scan.scan(tmp_path, room_for_prefix=700)
    assert seen.files == {}
    assert sorted(seen.left_out.values()) == ["its key would be longer than 1024 bytes", "its name is no valid UTF-8"]


def test_a_write_changes_the_state_even_when_its_time_is_set_back(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"one")
    before = scan.look(tmp_path, "x")
    assert before is not None
    path.write_bytes(b"two")
    os.utime(path, ns=(before.mtime_ns, before.mtime_ns))
    assert scan.look(tmp_path, "x") != before


def test_a_file_that_is_gone_or_a_directory_has_no_state(tmp_path: Path) -> None:
    assert scan.look(tmp_path, "x") is None
    assert scan.look(tmp_path, ".") is None


def test_only_one_checkpoint_can_be_looked_at(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_bytes(b"1")
    assert list(scan.scan(tmp_path, only="b").files) == ["b/f"]
