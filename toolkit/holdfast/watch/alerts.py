"""Complaints: what keeps checkpoints from being stored, told once and not at every look."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from holdfast.errors import CutFileError, StoreError
from holdfast.names import checkpoint_of, is_log
from holdfast.sync.syncer import Synced
from holdfast.wording import by_kind, first_few

_LOG = logging.getLogger(__name__)

STUCK = 60.0
"""Seconds after which a checkpoint that does not settle is told."""


class Alerts:
    """Warns of what does not work, and remembers what it has warned of. Not safe for several threads."""

    def __init__(self) -> None:
        self._refused: dict[str, str] = {}
        self._waiting_since: dict[str, float] = {}
        self._stuck: set[str] = set()
        self._untidy = ""

    def stuck(self, waiting: Iterable[str], now: float) -> None:
        """Say once of each checkpoint that has waited for a minute what it waits for."""
        first = {checkpoint_of(path): path for path in waiting if not is_log(path)}
        self._waiting_since = {name: self._waiting_since.get(name, now) for name in first}
        self._stuck &= first.keys()
        news = {name for name, since in self._waiting_since.items() if now - since > STUCK} - self._stuck
        self._stuck |= news
        for sentence in first_few(
            [
                f"{name!r} has not been stored for {STUCK:g} s: {path!r} is still being written, or open"
                for name, path in first.items()
                if name in news
            ]
        ):
            _LOG.warning("%s", sentence)

    def refused(self, synced: Synced) -> bool:
        """Say once of single files why they are not taken; return whether the store is the reason for any."""
        refused = {
            path: error for path, error in synced.unfinished.items() if isinstance(error, StoreError | CutFileError)
        }
        news = {path: error for path, error in refused.items() if self._refused.get(path) != str(error)}
        for sentence in by_kind(news, "{!r} is not in the snapshot: {}".format):
            _LOG.warning("%s", sentence)
        self._refused = {path: str(error) for path, error in refused.items()}
        return any(isinstance(error, StoreError) for error in refused.values())

    def untidy(self, error: Exception) -> None:
        """Say that tidying fails, unless that was said of the last time already."""
        if str(error) != self._untidy:
            _LOG.warning("the prefix cannot be tidied, trying again after the next snapshot: %s", error)
        self._untidy = str(error)

    def tidied(self) -> None:
        """Take it that tidying works."""
        self._untidy = ""
