"""The functions for training scripts, with and without an entrypoint."""

import json
import math
import os
import pydoc
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import holdfast


@pytest.fixture(autouse=True)
def _no_entrypoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SM_CHECKPOINT_DIR", "CHECKPOINT_LOCAL_PATH", "SAGEMAKER_BASE_DIR", "HOLDFAST_NOTICE_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def write(path: Path, modified: float, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (modified, modified))
    return path


def test_the_directory_comes_from_sagemakers_variable_then_ours_then_the_convention(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path / "ml"))
    (tmp_path / "ml").mkdir()
    assert holdfast.checkpoint_dir() == tmp_path / "ml/checkpoints"
    monkeypatch.setenv("CHECKPOINT_LOCAL_PATH", str(tmp_path / "b"))
    assert holdfast.checkpoint_dir() == tmp_path / "b"
    monkeypatch.setenv("SM_CHECKPOINT_DIR", str(tmp_path / "c"))
    assert holdfast.checkpoint_dir() == tmp_path / "c"
    assert (tmp_path / "c").is_dir()


def test_without_anything_the_directory_is_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path / "absent"))
    assert holdfast.checkpoint_dir() == tmp_path / "checkpoints"


def test_nobody_interrupts_and_time_is_endless_without_an_entrypoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path / "absent"))  # where this runs there may be an /opt/ml
    assert not holdfast.interrupted()
    assert holdfast.remaining() == math.inf
    assert holdfast.latest() is None


def test_the_newest_checkpoint_wins_and_numbers_break_ties(tmp_path: Path) -> None:
    write(tmp_path / "epoch-9.pt", 100)
    ten = write(tmp_path / "epoch-10.pt", 100)
    assert holdfast.latest(directory=tmp_path) == ten
    newer = write(tmp_path / "epoch-1.pt", 200)
    assert holdfast.latest(directory=tmp_path) == newer


def test_a_directory_is_as_new_as_its_newest_file(tmp_path: Path) -> None:
    write(tmp_path / "step-1.pt", 150)
    write(tmp_path / "step-2/model.pt", 100)
    write(tmp_path / "step-2/optimizer.pt", 200)
    assert holdfast.latest(directory=tmp_path) == tmp_path / "step-2"


def test_what_is_not_finished_is_no_checkpoint(tmp_path: Path) -> None:
    write(tmp_path / "model.pt.tmp", 900)
    write(tmp_path / "tmp-checkpoint-5/model.pt", 900)
    write(tmp_path / ".hidden", 900)
    write(tmp_path / "model.pt.sagemaker-uploading", 900)
    write(tmp_path / "empty.pt", 900, b"")
    (tmp_path / "empty-dir").mkdir()
    good = write(tmp_path / "model.pt", 100)
    assert holdfast.latest(directory=tmp_path) == good
    assert holdfast.latest("*.ubj", directory=tmp_path) is None
    assert holdfast.latest(directory=tmp_path / "absent") is None


def test_logs_and_metrics_beside_the_checkpoints_are_not_taken_for_one(tmp_path: Path) -> None:
    good = write(tmp_path / "epoch-3.pt", 100)
    for name in ("train.log", "metrics.json", "events.out.tfevents.1", "runs/x", "wandb/y", "history.csv", "notes"):
        write(tmp_path / name, 900)
    assert holdfast.latest(directory=tmp_path) == good
    good.unlink()
    assert holdfast.latest(directory=tmp_path) == tmp_path / "notes"  # who knows: better than nothing
    assert holdfast.latest("*.log", directory=tmp_path) == tmp_path / "train.log"  # asked for by name


def test_a_notice_interrupts_and_counts_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "notice.json"
    monkeypatch.setenv("HOLDFAST_NOTICE_FILE", str(path))
    assert not holdfast.interrupted()
    path.write_text(json.dumps({"kind": "rebalance", "stop": False, "stop_by": None}))
    assert not holdfast.interrupted()
    assert holdfast.remaining() == math.inf
    path.write_text(json.dumps({"kind": "spot", "stop": True, "stop_by": time.time() + 60}))
    assert holdfast.interrupted()
    assert 50 < holdfast.remaining() <= 60
    path.write_text(json.dumps({"kind": "spot", "stop": True, "stop_by": time.time() - 5}))
    assert holdfast.remaining() == 0
    path.write_text("[not a notice")
    assert not holdfast.interrupted()


def test_save_shows_the_file_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new/model.pt"
    with holdfast.save(target) as temporary:
        temporary.write_bytes(b"half")
        assert not target.exists()
        assert temporary.suffix == ".pt"
        assert holdfast.latest(directory=target.parent) is None
    assert target.read_bytes() == b"half"
    assert list(target.parent.iterdir()) == [target]


def test_save_keeps_the_old_file_when_the_script_fails(tmp_path: Path) -> None:
    target = write(tmp_path / "model.pt", 100, b"old")

    def fail_half_way() -> None:
        with holdfast.save(target) as temporary:
            temporary.write_bytes(b"new, but")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_save_says_so_when_nothing_was_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), holdfast.save(tmp_path / "model.pt"):
        pass


def test_save_replaces_a_directory(tmp_path: Path) -> None:
    write(tmp_path / "step/old.pt", 100)
    with holdfast.save(tmp_path / "step") as temporary:
        write(temporary / "deep/new.pt", 100)
    assert [path.name for path in (tmp_path / "step").iterdir()] == ["deep"]
    assert [path.name for path in tmp_path.iterdir()] == ["step"]


def test_the_helper_needs_no_third_party_package() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import holdfast; print(holdfast.interrupted())"
    toolkit = Path(holdfast.__file__).parents[1]
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, toolkit], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_help_shows_the_five_functions_with_what_each_returns_or_does() -> None:
    assert dir(holdfast) == holdfast.__all__ == ["checkpoint_dir", "interrupted", "latest", "remaining", "save"]
    page = pydoc.plain(pydoc.render_doc(holdfast))
    sections = dict(re.findall(r"^([A-Z ]+)\n((?:    .*\n|\n)+)", page, re.MULTILINE))
    described = dict(re.findall(r"^    (\w+)\(.*\n        (\S.*)", sections["FUNCTIONS"], re.MULTILINE))
    assert sorted(described) == holdfast.__all__
    assert all(name + "(" in sections["DESCRIPTION"] for name in described)
    assert "CLASSES" not in sections
    assert all(text.endswith(".") for text in described.values()), described
