"""Every event ends the wait, also a signal that another thread gets."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from holdfast_entrypoint.process import signals
from holdfast_entrypoint.process.inbox import Inbox

FOR_EVER = 1e6
"""Seconds. A test that really waits for it is ended by pytest's own time-out."""


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    inbox = Inbox()
    yield inbox
    inbox.close()


def test_events_come_in_order_and_without_waiting(inbox: Inbox) -> None:
    inbox.put("one")
    inbox.put("two")
    assert list(inbox.wait(FOR_EVER)) == ["one", "two"]
    assert list(inbox.wait(0)) == []


def test_another_thread_ends_the_wait(inbox: Inbox) -> None:
    threading.Timer(0.05, inbox.put, ["event"]).start()
    assert list(inbox.wait(FOR_EVER)) == ["event"]
    threading.Timer(0.05, inbox.wake).start()
    assert list(inbox.wait(FOR_EVER)) == []


@pytest.mark.timeout(30)
def test_a_signal_that_the_kernel_gives_to_another_thread_ends_the_wait(inbox: Inbox) -> None:
    with signals.recorded(inbox):
        # The main thread cannot get it, so the thread that sends it does.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        sender = threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGUSR1])
        try:
            unblocked = threading.Event()

            def get_the_signal() -> None:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
                unblocked.wait()

            receiver = threading.Thread(target=get_the_signal)
            receiver.start()
            sender.start()
            assert list(inbox.wait(FOR_EVER)) == [signals.Received(signal.SIGUSR1)]
            unblocked.set()
            receiver.join()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})


def test_more_events_than_the_pipe_holds_are_kept(inbox: Inbox) -> None:
    for number in range(100_000):
        inbox.put(number)
    assert list(inbox.wait(FOR_EVER)) == list(range(100_000))


def test_an_event_after_the_end_is_no_error() -> None:
    inbox = Inbox()
    inbox.close()
    inbox.put("late")


def test_the_handlers_are_as_before_afterwards(inbox: Inbox) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with signals.recorded(inbox):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
