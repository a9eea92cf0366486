"""Measuring a program: what its children take belongs to it."""

import sys
from pathlib import Path

import pytest
from benchmarks import measure

BUSY = "import time\nwhile time.process_time() < 0.2: pass"
LARGE = "held = bytearray(80 << 20)\nimport time\ntime.sleep(0.2)"


def run(script: str, folder: Path) -> measure.Usage:
    return measure.run(
        [sys.executable, "-c", script], environ=measure.environment(folder), cwd=folder, log=folder / "log"
    )


def in_a_child(script: str) -> str:
    return f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {script!r}], check=True)"


def test_the_cpu_of_children_counts(tmp_path: Path) -> None:
    used = run(in_a_child(BUSY), tmp_path)
    assert used.cpu >= 0.2
    assert used.wall >= 0.1


def test_the_memory_of_children_counts_beside_that_of_the_parent(tmp_path: Path) -> None:
    alone = run(LARGE, tmp_path)
    assert alone.peak_mib >= 80
    assert run(f"mine = bytearray(50 << 20)\n{in_a_child(LARGE)}", tmp_path).peak_mib >= 130


def test_a_program_has_neither_our_variables_nor_our_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mine")
    ours = bytearray(200 << 20)
    used = run("import os\nprint(sorted(os.environ))", tmp_path)
    assert len(ours) > used.peak_mib * (1 << 20)
    assert "AWS_" not in (tmp_path / "log").read_text()


def test_how_a_program_ended_is_told_and_what_it_said_is_kept(tmp_path: Path) -> None:
    assert run("raise SystemExit('no disk')", tmp_path).status == 1
    assert (tmp_path / "log").read_text() == "no disk\n"
    assert run("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", tmp_path).status == -9
