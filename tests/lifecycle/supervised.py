"""A `holdfast run` in a process of its own, with its log, report and store."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

TIMEOUT = 60.0
"""Seconds after which a wait is a failure. No test asserts how long something takes."""


def wait_until(condition: Callable[[], object], what: str, timeout: float = TIMEOUT) -> None:
    give_up = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > give_up:
            raise AssertionError(f"waited {timeout:g} s in vain until {what}")
        time.sleep(0.02)


def can_make_pid_namespace() -> bool:
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


class Supervised:
    """One `holdfast run -- COMMAND` with a store in a directory.

    Args:
        root: directory of the test, for the store and the machines.
        environ: variables in addition to the usual ones; None removes one.
        as_pid_1: whether it is PID 1 of a PID namespace of its own.
        machine: name of the machine: another name is an empty disk.
        under: command prefix, to start it in another namespace, for example.
    """

    def __init__(
        self,
        root: Path,
        command: Sequence[str | Path],
        *,
        environ: Mapping[str, str | None] | None = None,
        as_pid_1: bool = False,
        machine: str = "one",
        verb: Sequence[str] = ("run", "--"),
        directory: Path | None = None,
        under: Sequence[str] = (),
    ) -> None:
        self.store = root / "store"
        self.store.mkdir(exist_ok=True)
        self.machine = root / machine
        self.machine.mkdir(exist_ok=True)
        self.base = self.machine / "ml"
        self.checkpoints = self.base / "checkpoints"
        self._report = self.machine / "report.json"
        self._out, self._err = self.machine / "stdout", self.machine / "stderr"
        everything: dict[str, str | None] = {
            **os.environ,
            "SAGEMAKER_BASE_DIR": str(self.base),
            "CHECKPOINT_S3_URI": f"file://{self.store}",
            "HOLDFAST_GRACE_SECONDS": "20",
            "HOLDFAST_REPORT_FILE": str(self._report),
            "AWS_EC2_METADATA_DISABLED": "true",
            "PYTHONUNBUFFERED": "1",
            **(environ or {}),
        }
        line = [*under, sys.executable, "-I", "-u", "-m", "holdfast_entrypoint", *verb, *map(str, command)]
        if as_pid_1:
            line = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *line]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                line,
                env={name: value for name, value in everything.items() if value is not None},
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                cwd=directory or self.machine,
            )
        self.pid = self.process.pid
        if as_pid_1:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
            wait_until(lambda: children.read_text().split(), "PID 1 is there")
            self.pid = int(children.read_text().split()[0])

    @property
    def stdout(self) -> bytes:
        return self._out.read_bytes()

    @property
    def log(self) -> str:
        return self._err.read_text(errors="replace")

    @property
    def report(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self._report.read_text())
        return content

    def wait_for(self, path: str) -> None:
        """Wait until the script has made a file in its checkpoint directory."""
        self._wait((self.checkpoints / path).exists, f"{path} is there")

    def wait_for_output(self, text: str) -> None:
        self._wait(lambda: text.encode() in self.stdout, f"the script prints {text!r}")

    def wait_for_log(self, text: str) -> None:
        self._wait(lambda: text in self.log, f"the log says {text!r}")

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        ended: list[int] = []

        def over() -> bool:
            if condition():
                return True
            if ended:
                raise AssertionError(f"it ended with {ended[0]} before {what}; the log:\n{self.log}")
            ended.extend(code for code in [self.process.poll()] if code is not None)
            return False

        try:
            wait_until(over, what)
        except AssertionError as error:
            error.add_note(self.log)
            raise

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        os.kill(self.pid, number)

    def exit_code(self) -> int:
        try:
            return self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end; the log:\n{self.log}") from None

    def stored(self) -> dict[str, bytes]:
        """Return the files of the newest snapshot, by path, read straight from the store."""
        names = sorted((self.store / ".holdfast/commits").glob("*.json"))
        records = [body for body in (json.loads(name.read_text()) for name in names) if "fence" not in body]
        if not records:
            return {}
        body = records[-1]
        return {entry["path"]: (self.store / entry["key"]).read_bytes() for entry in body["files"]}

    def vanish(self) -> None:
        """Kill every process without notice, as a power loss does."""
        pids = [self.process.pid, *descendants(self.process.pid)]
        for pid in pids:  # the supervisor first, so that it notices nothing
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
