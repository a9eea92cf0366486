"""SIGTERM reaches the script's own handler, however the script was started."""

import importlib.util
import signal
import sys
from pathlib import Path

import pytest
from tests.lifecycle.conftest import Start
from tests.lifecycle.supervised import can_make_pid_namespace

SCRIPT = """
import os, pathlib, signal, sys, time
directory = pathlib.Path(os.environ["SM_CHECKPOINT_DIR"])
rank = os.environ.get("RANK", "0")

def handle(number, frame):
    (directory / f"handled-{rank}").write_text(signal.Signals(number).name)
    sys.exit(0)

signal.signal(getattr(signal, os.environ.get("EXPECTED", "SIGTERM")), handle)
(directory / f"ready-{rank}").write_text("")
while True:
    time.sleep(0.05)
"""

DOUBLE_FORK = """
import os, subprocess, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() > 0:
        os._exit(0)
    os.execv(sys.executable, [sys.executable, sys.argv[1]])
os.wait()
while True:  # the parent neither handles nor passes on anything
    time.sleep(0.05)
"""

LAUNCHERS = ("direct", "sh -c", "shell script", "nohup", "double fork", "torchrun", "torch.distributed.run")


def command(launcher: str, directory: Path) -> list[str]:
    script = directory / "script.py"
    script.write_text(SCRIPT)
    python = sys.executable
    if launcher == "sh -c":
        return ["sh", "-c", f"{python} {script}; true"]
    if launcher == "shell script":
        wrapper = directory / "run.sh"
        wrapper.write_text(f"#!/bin/sh\necho starting\n{python} {script}\necho done\n")
        wrapper.chmod(0o755)
        return [str(wrapper)]
    if launcher == "nohup":
        return ["sh", "-c", f"nohup {python} {script}; true"]
    if launcher == "double fork":
        daemon = directory / "daemon.py"
        daemon.write_text(DOUBLE_FORK)
        return [python, str(daemon), str(script)]
    if launcher.startswith("torch"):
        if importlib.util.find_spec("torch") is None:
            pytest.skip("PyTorch is not installed: pip install torch")
        module = [python, "-m", "torch.distributed.run"]
        torchrun = [str(Path(python).with_name("torchrun"))]
        return [*(torchrun if launcher == "torchrun" else module), "--standalone", "--nproc-per-node=2", str(script)]
    return [python, str(script)]


@pytest.mark.parametrize("as_pid_1", [False, True], ids=["not PID 1", "PID 1"])
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_sigterm_reaches_every_rank_through(launcher: str, as_pid_1: bool, start: Start, tmp_path: Path) -> None:
    if as_pid_1 and not can_make_pid_namespace():
        pytest.skip("this user cannot make a PID namespace (unshare --pid needs root)")
    run = start(*command(launcher, tmp_path), as_pid_1=as_pid_1)
    ranks = ["0", "1"] if launcher.startswith("torch") else ["0"]
    for rank in ranks:
        run.wait_for(f"ready-{rank}")
    run.signal()
    assert run.exit_code() == 143, run.log
    stored = run.stored()
    assert [stored.get(f"handled-{rank}") for rank in ranks] == [b"SIGTERM"] * len(ranks), run.log


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_script_gets_the_signal_it_asked_for(sent: signal.Signals, start: Start, tmp_path: Path) -> None:
    environ = {"HOLDFAST_STOP_SIGNAL": "USR1", "EXPECTED": "SIGUSR1"}
    run = start(*command("direct", tmp_path), environ=environ)
    run.wait_for("ready-0")
    run.signal(sent)
    assert run.exit_code() == 143
    assert run.stored()["handled-0"] == b"SIGUSR1"


def test_other_signals_are_passed_on_and_stop_nothing(start: Start, tmp_path: Path) -> None:
    run = start(*command("direct", tmp_path), environ={"EXPECTED": "SIGUSR2"})
    run.wait_for("ready-0")
    run.signal(signal.SIGUSR2)
    assert run.exit_code() == 0  # of the script's handler: the script was not stopped
    assert run.stored()["handled-0"] == b"SIGUSR2"
