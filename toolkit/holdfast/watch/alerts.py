"""Warnings about checkpoints that cannot be stored, each logged once and not at every scan."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable

from holdfast.errors import CutFileError, StoreError
from holdfast.names import checkpoint_of, is_log
from holdfast.sync.syncer import Synced
from holdfast.wording import by_kind, first_few

_LOG = logging.getLogger(__name__)

STUCK = 60.0
"""Seconds after which a checkpoint that does not settle is reported."""


class Alerts:
    """Log each warning once, until its reason changes. Not safe for several threads."""

    def __init__(self) -> None:
        self._refused: dict[str, str] = {}
        self._waiting_since: dict[str, float] = {}
        self._tidy_error = ""

    def stuck(self, waiting: Iterable[str], now: float) -> None:
        """Warn of each checkpoint that has not settled for a minute."""
        paths = {checkpoint_of(path): path for path in waiting if not is_log(path)}
        self._waiting_since = {name: self._waiting_since.get(name, now) for name in paths}
        found = [name for name, since in self._waiting_since.items() if now - since > STUCK]
        self._waiting_since.update(dict.fromkeys(found, math.inf))
        sentence = "{!r} has not been stored for {:g} s: {!r} is still being written, or open".format
        for warning in first_few([sentence(name, STUCK, paths[name]) for name in found]):
            _LOG.warning("%s", warning)

    def refused(self, synced: Synced) -> bool:
        """Warn of each file that was refused; return whether the store refused any."""
        unfinished = synced.unfinished.items()
        refused = {path: error for path, error in unfinished if isinstance(error, StoreError | CutFileError)}
        changed = {path: error for path, error in refused.items() if self._refused.get(path) != str(error)}
        for sentence in by_kind(changed, "{!r} is not in the snapshot: {}".format):
            _LOG.warning("%s", sentence)
        self._refused = {path: str(error) for path, error in refused.items()}
        return any(isinstance(error, StoreError) for error in refused.values())

    def tidied(self, error: Exception | None = None) -> None:
        """Warn if tidying failed, unless it failed the same way before."""
        if error is not None and str(error) != self._tidy_error:
            _LOG.warning("the prefix cannot be tidied, trying again after the next snapshot: %s", error)
        self._tidy_error = str(error or "")
