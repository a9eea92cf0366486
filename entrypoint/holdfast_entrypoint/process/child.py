"""Child: the script's process and its descendants, with the duties of PID 1."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGKILL, Signals

from holdfast.errors import MORE_PROCESSES, CommandNotExecutableError, CommandNotFoundError
from holdfast_entrypoint import exit_codes
from holdfast_entrypoint.process.open_files import open_for_writing

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_PROC = Path("/proc")


def refuse_if_missing(program: str, *, environ: Mapping[str, str]) -> None:
    """Refuse a command that is not in PATH: a typo is found before an attempt is claimed.

    Raises:
        CommandNotFoundError: there is no such program.
    """
    if "/" not in program and shutil.which(program, path=environ.get("PATH")) is None:
        raise CommandNotFoundError(f"command not found in PATH: {program!r}; check the spelling, or give its path")


class Child:
    """The script, in a session and process group of its own, and all its descendants.

    This process is PID 1 or a subreaper, so it adopts descendants whose parents end, and reaps all of them.
    """

    def __init__(self, command: Sequence[str], *, environ: Mapping[str, str], directory: Path | None) -> None:
        """Start the command with the standard streams of this process: its output is neither read nor copied.

        Raises:
            CommandNotFoundError: there is no such command.
            CommandNotExecutableError: it cannot be executed.
        """
        if os.getpid() != 1:
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            process = subprocess.Popen(list(command), env=dict(environ), cwd=directory, start_new_session=True)
        except FileNotFoundError as error:
            problem = f"{command[0]!r} cannot be started: {error.strerror}: {error.filename}"
            raise CommandNotFoundError(problem) from error
        except OSError as error:
            advice = f": {MORE_PROCESSES}" if error.errno == errno.EAGAIN else ""
            problem = f"{command[0]!r} cannot be executed: {error.strerror}{advice}"
            raise CommandNotExecutableError(problem) from error
        self.exit_code: int | None = None
        """The script's exit code, 128+n when signal n ended it; None while it runs."""
        self.died_of_signal = False
        """Whether a signal ended the script's process."""
        self._process = process
        self._signalled: set[int] = set()
        self._writing: dict[int, frozenset[str]] = {}
        self._cut_off: set[str] = set()

    def reap(self) -> None:
        """Reap every child that has ended, the script among them."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            files = self._writing.pop(pid, frozenset())
            if code < 0:
                self._cut_off |= files
            if pid == self._process.pid:
                self._process.returncode = code
                self.exit_code = exit_codes.of_signal(-code) if code < 0 else code
                self.died_of_signal = code < 0

    def pids(self) -> list[int]:
        """Return every running descendant."""
        return _descendants(os.getpid())

    def note_writers(self, directory: Path) -> None:
        """Note the files below a directory that each process has open for writing: before a signal that may end it."""
        found = {pid: open_for_writing(pid, directory) for pid in self.pids()}
        # A process that its own parent has reaped may have been killed: the files that it had open stay suspect.
        gone = {pid: files for pid, files in self._writing.items() if pid not in found}
        self._writing = {pid: files for pid, files in (gone | found).items() if files}

    def cut_off(self) -> frozenset[str]:
        """Return the files that were open for writing, when last noted, in processes that a signal ended."""
        return frozenset(self._cut_off.union(*self._writing.values()))

    def signal(self, number: Signals) -> None:
        """Send a signal once to the process group of each child of this process.

        These are the script's group and those of adopted processes. A launcher that gives its workers sessions of
        their own (torchrun) passes the signal on itself; a second one would interrupt a handler that is saving.
        """
        self._signalled.clear()
        self.signal_orphans(number)

    def signal_orphans(self, number: Signals) -> None:
        """Send the signal to the groups of processes that were adopted after it was sent first."""
        own = os.getpgrp()
        for pid in _children(os.getpid()):
            try:
                group = os.getpgid(pid)
                if group == own or group in self._signalled:
                    continue
                self._signalled.add(group)
                os.killpg(group, number)
            except (ProcessLookupError, PermissionError):  # it has ended, or runs as another user
                continue

    def alive(self) -> bool:
        """Return whether the script or one of its descendants is running (zombies are not)."""
        return bool(self.pids())

    def kill(self, patience: float = 2.0) -> None:
        """SIGKILL every descendant, in whatever session, until none is left or `patience` seconds have passed."""
        give_up = time.monotonic() + patience
        while time.monotonic() < give_up:
            victims = self.pids()
            if not victims:
                break
            for pid in victims:
                try:
                    os.kill(pid, SIGKILL)
                except (ProcessLookupError, PermissionError):
                    continue
            self.reap()
            time.sleep(0.01)  # a killed process needs a moment; one in an uninterruptible read never ends
        self.reap()


def _descendants(root: int) -> list[int]:
    """Return the running descendants of a process."""
    parents = _parents()
    below = {root}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in below and pid not in below}
        below |= more
        grown = bool(more)
    return sorted(below - {root})


def _children(root: int) -> list[int]:
    return sorted(pid for pid, parent in _parents().items() if parent == root)


def _parents() -> dict[int, int]:
    """Return pid → parent for every running process (proc(5), field 4 of stat; state Z and X are not running)."""
    parents = {}
    for entry in os.scandir(_PROC):
        if not entry.name.isdigit():
            continue
        try:
            # The command in parentheses may contain parentheses: the fields start after the last one.
            fields = (_PROC / entry.name / "stat").read_bytes().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] not in (b"Z", b"X"):
            parents[int(entry.name)] = int(fields[1])
    return parents
