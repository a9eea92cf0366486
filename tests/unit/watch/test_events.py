"""Which events of a checkpoint directory are a reason to scan it."""

from __future__ import annotations

from pathlib import Path

from tests.lifecycle.supervised import wait_until
from tests.logs import Logged

from holdfast.watch.events import Events
from holdfast.watch.settling import Settling


def test_a_write_into_staging_is_no_reason_to_scan_and_a_rename_into_place_is(tmp_path: Path, logged: Logged) -> None:
    staged = tmp_path / ".holdfast/staging/checkpoint-1"
    staged.mkdir(parents=True)
    events = Events(tmp_path, Settling())
    events.start()
    try:
        (staged / "model.pt").write_bytes(b"1")
        wait_until(lambda: events.pending, "the kernel has reported the write")
        assert not events.drain(0)
        staged.rename(tmp_path / "checkpoint-1")
        wait_until(lambda: events.drain(0), "the kernel has reported the rename")
    finally:
        events.stop()
    assert logged() == []
