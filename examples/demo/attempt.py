"""One attempt: holdfast as a process of its own on a machine (a directory) of its own, and what came of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

_ROUND = re.compile(r"round (\d+): logloss")
_OWN = ("AWS_", "CHECKPOINT_", "ECS_", "HOLDFAST_", "KUBERNETES_", "OUTPUT_", "S3_", "SAGEMAKER_", "SM_", "TRAINING_")
_END_SECONDS = 10.0


class AttemptError(Exception):
    """The attempt did not come to the point that the demo waits for."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt.

    Attributes:
        number: 1, 2, …
        exit_code: of holdfast.
        rounds: the rounds that the script said it trained, in order.
        report: what holdfast wrote to HOLDFAST_REPORT_FILE.
    """

    number: int
    exit_code: int
    rounds: Sequence[int]
    report: Mapping[str, Any] = field(default_factory=dict)


def clean_environment() -> dict[str, str]:
    """Return our environment without what would steer holdfast or AWS's libraries, and without a proxy for loopback."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
    environ["NO_PROXY"] = environ["no_proxy"] = ",".join(
        filter(None, ["127.0.0.1", environ.get("NO_PROXY") or environ.get("no_proxy")])
    )
    # The script's `python` is the one that runs the demo.
    environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)])
    return environ


class Attempt:
    """A running attempt; its output is shown line by line as it comes.

    Args:
        number: 1, 2, …
        machine: a directory that stands for the machine: SAGEMAKER_BASE_DIR.
        program: the training script.
        hyperparameters: for hyperparameters.json.
        environ: the whole environment of the process.
        report: where holdfast writes its report; not on the machine, which does not survive.
    """

    def __init__(
        self,
        number: int,
        *,
        machine: Path,
        program: Path,
        hyperparameters: Mapping[str, object],
        environ: Mapping[str, str],
        report: Path,
    ) -> None:
        self.number = number
        self._report = report
        self._lines: list[str] = []
        self._heard = threading.Condition()
        _furnish(machine, program, hyperparameters)
        own = {
            "SAGEMAKER_BASE_DIR": str(machine),
            "SAGEMAKER_PROGRAM": program.name,
            "HOLDFAST_REPORT_FILE": str(report),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-u", "-m", "holdfast_entrypoint", "train"],
            cwd=machine,
            env={**environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is ours to hear; the attempt is ended in order, by pid
        )
        self._reader = threading.Thread(target=self._show, daemon=True)
        self._reader.start()

    def rounds(self) -> list[int]:
        """Return the rounds that the script has said it trained so far."""
        return [int(found[1]) for line in list(self._lines) if (found := _ROUND.search(line))]

    def wait_until(self, true: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until something is true; it is looked at again after every line and every quarter of a second.

        Raises:
            AttemptError: the attempt ended, or the time passed, before.
        """
        give_up = time.monotonic() + seconds
        with self._heard:
            while not true():
                if self._process.poll() is not None:
                    raise AttemptError(
                        f"attempt {self.number} ended with exit code {self._process.returncode} before {what}"
                    )
                if time.monotonic() > give_up:
                    raise AttemptError(f"attempt {self.number}: {seconds:g} s have passed without {what}")
                self._heard.wait(0.25)

    def outcome(self, seconds: float) -> Outcome:
        """Wait for the end and return what came of it.

        Raises:
            AttemptError: it did not end in time.
        """
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise AttemptError(f"attempt {self.number} has not ended within {seconds:g} s") from error
        self._reader.join(_END_SECONDS)
        report = json.loads(self._report.read_text()) if self._report.exists() else {}
        return Outcome(self.number, code, self.rounds(), report)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the attempt if it still runs: SIGTERM, and after ten seconds SIGKILL for it and its children."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                for pid in [*_children(self._process.pid), self._process.pid]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                self._process.wait()
        self._reader.join(_END_SECONDS)

    def _show(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                print(f"  {self.number} | {line}", end="", flush=True)
                with self._heard:
                    self._lines.append(line)
                    self._heard.notify_all()


def _furnish(machine: Path, program: Path, hyperparameters: Mapping[str, object]) -> None:
    """Make what SageMaker puts on a machine before it starts the container."""
    (machine / "code").mkdir(parents=True)
    (machine / "code" / program.name).write_bytes(program.read_bytes())
    (machine / "input/config").mkdir(parents=True)
    # Every value is a string, as SageMaker writes them.
    texts = {name: str(value) for name, value in hyperparameters.items()}
    (machine / "input/config/hyperparameters.json").write_text(json.dumps(texts))


def _children(pid: int) -> list[int]:
    """Return the children of a process, from proc(5)."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
