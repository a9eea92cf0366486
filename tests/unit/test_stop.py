"""The stop token: what the code that holds one may rely on."""

from __future__ import annotations

import math
import threading
import time

import pytest

from holdfast.stop import NEVER, StoppedError, StopToken


def test_a_token_without_conditions_never_stops() -> None:
    for token in (NEVER, StopToken(), StopToken(NEVER)):
        assert not token.stopped()
        assert not token.winding_down()
        assert token.seconds_left() == math.inf
        token.refuse_if_stopped("uploading x")


def test_a_deadline_that_appears_and_moves_is_seen_at_once() -> None:
    deadline = [math.inf]
    token = StopToken(seconds_left=lambda: deadline[0])
    for deadline[0] in (math.inf, 120.0, 5.0, 60.0):
        assert (token.seconds_left(), token.stopped()) == (deadline[0], False)
    for deadline[0] in (0.0, -3.0):
        assert (token.seconds_left(), token.stopped(), token.winding_down()) == (0.0, True, True)


def test_a_stopped_token_has_no_time_left_whatever_its_deadline_says() -> None:
    event = threading.Event()
    token = StopToken(when=event.is_set, seconds_left=lambda: 60.0)
    assert (token.seconds_left(), token.stopped()) == (60.0, False)
    event.set()
    assert (token.seconds_left(), token.stopped(), token.winding_down()) == (0.0, True, True)


def test_winding_down_ends_nothing_that_has_begun() -> None:
    event = threading.Event()
    token = StopToken(wind_down=event.is_set)
    assert not token.winding_down()
    event.set()
    assert token.winding_down()
    assert not token.stopped()
    assert token.seconds_left() == math.inf
    token.refuse_if_stopped("uploading x")


def test_a_derived_token_obeys_its_parent_and_its_own_conditions() -> None:
    left, over, gentle = 60.0, threading.Event(), threading.Event()
    parent = StopToken(seconds_left=lambda: left, wind_down=gentle.is_set)
    sooner = StopToken(parent, seconds_left=lambda: left - 10)
    other = StopToken(parent, when=over.is_set)
    assert (sooner.seconds_left(), other.seconds_left()) == (50.0, 60.0)
    gentle.set()
    assert sooner.winding_down()
    assert other.winding_down()
    left = 10.0
    assert (sooner.stopped(), parent.stopped(), other.stopped()) == (True, False, False)
    over.set()
    assert (parent.stopped(), other.stopped()) == (False, True)
    left = 0.0
    assert parent.stopped()
    assert StopToken(parent).stopped()
    assert StopToken(parent, seconds_left=lambda: 60.0).seconds_left() == 0.0


def test_the_error_says_what_was_stopped() -> None:
    with pytest.raises(StoppedError, match="uploading x was stopped before it was done"):
        StopToken(when=lambda: True).refuse_if_stopped("uploading x")


def test_a_pause_has_the_length_that_was_asked_for() -> None:
    pauses: list[float] = []
    NEVER.wait(0.5, pauses.append)
    assert sum(pauses) == pytest.approx(0.5)


def test_a_pause_ends_early_when_another_thread_stops_it() -> None:
    event = threading.Event()
    threading.Timer(0.05, event.set).start()
    began = time.monotonic()
    StopToken(when=event.is_set).wait(60)
    assert event.is_set()
    assert time.monotonic() - began < 30


def test_a_stop_is_seen_by_every_thread_and_by_every_derived_token() -> None:
    event, working = threading.Event(), threading.Barrier(9)
    root = StopToken(when=event.is_set)

    def work() -> None:
        token = StopToken(StopToken(root, seconds_left=lambda: 60.0))
        working.wait()
        while not token.stopped():
            pass

    threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    working.wait()
    event.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
