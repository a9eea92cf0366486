"""StopToken and StoppedError: how a caller ends work early."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.errors import HoldfastError

StopQuestion = Callable[[], bool]


class StoppedError(HoldfastError):
    """The caller asked for an end, or its time was up, before the transfer was done."""


def refuse_if_stopped(should_stop: StopQuestion | None, doing: str) -> None:
    """Raise StoppedError when the caller wants no more."""
    if should_stop is not None and should_stop():
        raise StoppedError(f"{doing} was stopped before it was done")
