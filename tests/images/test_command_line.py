"""Command lines of `docker run IMAGE ...`, and the errors for wrong ones."""

from __future__ import annotations

import pytest
from tests.images.containers import Containers

import holdfast

pytestmark = pytest.mark.docker


def test_version_is_that_of_this_tree(containers: Containers) -> None:
    ended = containers.run("--version")
    assert (ended.code, ended.out.strip()) == (0, f"holdfast {holdfast.__version__}")


def test_help_lists_the_verbs(containers: Containers) -> None:
    ended = containers.run("--help")
    assert ended.code == 0
    assert all(f"holdfast {verb}" in ended.out for verb in ("run", "train", "ls", "pull", "push", "verify"))


def test_holdfast_is_a_command_inside_too(containers: Containers) -> None:
    ended = containers.run("holdfast", "--version")
    assert (ended.code, ended.out.strip()) == (0, f"holdfast {holdfast.__version__}")


def test_serve_is_refused_with_a_sentence(containers: Containers) -> None:
    ended = containers.run("serve")
    assert ended.code == 64
    assert "training image" in ended.err


@pytest.mark.parametrize("command", [[], ["train"]])
def test_train_without_a_program_says_which_variable_to_set(containers: Containers, command: list[str]) -> None:
    ended = containers.run(*command)
    assert ended.code == 64
    assert "SAGEMAKER_PROGRAM" in ended.err


@pytest.mark.parametrize("command", [[], ["train"]])
def test_train_runs_the_named_program_with_the_users_python(containers: Containers, command: list[str]) -> None:
    ended = containers.run(
        *command,
        files={"hello.py": "import sys; print(sys.executable, *sys.argv)"},
        environment={"SAGEMAKER_PROGRAM": "hello.py"},
    )
    assert (ended.code, ended.out) == (0, "/opt/venv/bin/python hello.py\n")


@pytest.mark.parametrize("before", [[], ["run"], ["run", "--"], ["--"]])
def test_a_command_is_run_in_the_code_directory(containers: Containers, before: list[str]) -> None:
    ended = containers.run(*before, "python", "x.py", "--epochs", "3", files={"x.py": "import sys; print(sys.argv)"})
    assert (ended.code, ended.out) == (0, "['x.py', '--epochs', '3']\n")


def test_the_scripts_exit_code_is_the_containers(containers: Containers) -> None:
    assert containers.run("python", "-c", "raise SystemExit(7)").code == 7


def test_death_by_signal_is_128_and_the_signals_number(containers: Containers) -> None:
    assert containers.run("python", "-c", "import os; os.kill(os.getpid(), 11)").code == 128 + 11
