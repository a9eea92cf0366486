"""Inotify events of a directory, and a kernel that refuses them."""

import logging
import queue
import time
from pathlib import Path

from tests.logs import Logged
from watchdog.events import FileClosedEvent, FileModifiedEvent, FileMovedEvent, FileSystemEvent

from holdfast.watch.inotify import EventQueue, observe


def test_writes_closings_and_renames_come_with_their_times(tmp_path: Path, logged: Logged) -> None:
    events: EventQueue = queue.SimpleQueue()
    stop = observe(tmp_path, events, on_overflow=lambda: None)
    assert stop is not None
    try:
        before = time.monotonic()
        (tmp_path / "deep").mkdir()
        time.sleep(0.1)  # the new directory is being watched now
        (tmp_path / "deep/a").write_bytes(b"1")
        (tmp_path / "deep/a").rename(tmp_path / "deep/b")
        seen: list[FileSystemEvent] = []
        while not seen or not isinstance(seen[-1], FileMovedEvent):
            entry = events.get(timeout=30)
            assert entry is not None
            assert before <= entry[0] <= time.monotonic()
            seen.append(entry[1])
    finally:
        stop()
    kinds = [type(event) for event in seen if str(event.src_path).endswith("/a")]
    assert kinds.index(FileModifiedEvent) < kinds.index(FileClosedEvent) < kinds.index(FileMovedEvent)
    assert logged() == []


def test_where_the_kernel_refuses_a_warning_is_logged_and_nothing_else_happens(tmp_path: Path, logged: Logged) -> None:
    assert observe(tmp_path / "absent", queue.SimpleQueue(), on_overflow=lambda: None) is None
    assert "cannot watch" in logged()[0]


def test_stopping_in_the_middle_of_events_logs_nothing(tmp_path: Path, logged: Logged) -> None:
    for turn in range(20):
        stop = observe(tmp_path, queue.SimpleQueue(), on_overflow=lambda: None)
        assert stop is not None
        for number in range(50):
            (tmp_path / f"{turn}-{number}").write_bytes(b"1")
        stop()
    assert logged() == []
    assert not logging.getLogger("watchdog").handlers
