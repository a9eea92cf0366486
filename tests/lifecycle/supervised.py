"""A real `holdfast run` in a real process, for tests: started, signalled, awaited, and looked into."""

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

PATIENCE = 60.0
"""Seconds after which a wait is a failure. Generous: no test asserts how long something takes."""


def wait_until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    give_up = time.monotonic() + patience
    while not condition():
        if time.monotonic() > give_up:
            raise AssertionError(f"waited {patience:g} s in vain until {what}")
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
        root: a directory of the test's own; the store, and with `machine` the rest, live below it.
        command: what runs.
        environ: variables on top of the usual ones; None removes one.
        as_pid_1: in a PID namespace of its own, where it is PID 1.
        machine: name of the "machine": another name is an empty disk.
        under: a command that runs it: it puts it into another namespace, for one.
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
                raise AssertionError(f"it ended with {ended[0]} before {what}; the log says:\n{self.log}")
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
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end; the log says:\n{self.log}") from None

    def stored(self) -> dict[str, bytes]:
        """Return the files of the newest snapshot, by path, read straight from the store."""
        names = sorted((self.store / ".holdfast/commits").glob("*.json"))
        records = [body for body in (json.loads(name.read_text()) for name in names) if "fence" not in body]
        if not records:
            return {}
        body = records[-1]
        return {entry["path"]: (self.store / entry["key"]).read_bytes() for entry in body["files"]}

    def vanish(self) -> None:
        """End everything at once and without a word, as a machine that loses its power."""
        everything = [self.process.pid, *descendants(self.process.pid)]
        for pid in everything:  # the supervisor first, so that it sees nothing
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
