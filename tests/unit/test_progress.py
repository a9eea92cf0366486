"""Progress of a long transfer, in a log and on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

from tests.logs import Logged

from holdfast_entrypoint import progress

DRAWS = """
import logging
from holdfast_entrypoint import log, progress
log.install({}, by_hand=True)
LOG = logging.getLogger("holdfast.any")
with progress.shown("restoring") as count:
    count(0, 1 << 20)
    count(1 << 19, 1 << 20)
    LOG.info("a sentence")
LOG.info("another one")
count(1 << 20, 1 << 20)
"""


def test_a_log_gets_a_line_every_ten_seconds_with_the_rate_and_the_seconds_left(logged: Logged) -> None:
    times = iter((0.0, 5.0, 10.0, 12.0, 20.0))
    lines = progress.Lines("restoring", lambda: next(times))
    for done in (100, 200_000_000, 240_000_000, 300_000_000):
        lines(done, 1_000_000_000)
    assert logged() == [
        "restoring: 200,000,000 of 1,000,000,000 bytes (20 %), 20.0 MB/s, 40 s left",
        "restoring: 300,000,000 of 1,000,000,000 bytes (30 %), 15.0 MB/s, 47 s left",
    ]


def test_before_the_first_byte_no_seconds_left_are_shown(logged: Logged) -> None:
    times = iter((0.0, 10.0))
    progress.Lines("restoring", lambda: next(times))(0, 0)
    assert logged() == ["restoring: 0 of 0 bytes (0 %), 0.0 MB/s"]


def test_on_a_terminal_log_lines_do_not_run_into_the_bar() -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    subprocess.run([sys.executable, "-c", DRAWS], stderr=theirs, check=True)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # the other side of the terminal is closed
        pass
    os.close(ours)
    assert b"restoring:   0%" in shown
    assert b"\rholdfast: a sentence\r\n" in shown
    assert b"\rholdfast: another one\r\n" in shown


def test_nothing_is_drawn_into_a_pipe() -> None:
    done = subprocess.run([sys.executable, "-c", DRAWS], capture_output=True, check=True)
    assert done.stderr == b"holdfast: a sentence\nholdfast: another one\n"
