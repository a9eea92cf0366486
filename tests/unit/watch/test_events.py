"""What is heard of a checkpoint directory, and what of it is our own doing."""

from __future__ import annotations

from pathlib import Path

from tests.lifecycle.supervised import wait_until
from tests.logs import Logged

from holdfast.watch.events import Events
from holdfast.watch.settling import Settling


def test_what_is_written_into_staging_is_no_news_and_what_is_put_in_place_is(tmp_path: Path, logged: Logged) -> None:
    staged = tmp_path / ".holdfast/staging/checkpoint-1"
    staged.mkdir(parents=True)
    hearing = Events(tmp_path, Settling())
    hearing.start()
    try:
        (staged / "model.pt").write_bytes(b"1")
        wait_until(lambda: hearing.has_news, "the kernel has told of the writing")
        hearing.drain(0)
        assert hearing.dirty_since is None
        staged.rename(tmp_path / "checkpoint-1")

        def is_dirty() -> bool:
            hearing.drain(0)
            return hearing.dirty_since is not None

        wait_until(is_dirty, "the renaming is heard of")
    finally:
        hearing.stop()
    assert logged() == []
