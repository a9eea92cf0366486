"""Store as many complete checkpoints as possible before a deadline."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

from holdfast.errors import (
    AccessDeniedError,
    CutFileError,
    FileChangedError,
    HoldfastError,
    StoreError,
    TransientStoreError,
)
from holdfast.local.groups import Group, grouped
from holdfast.local.scan import FileState, Scan
from holdfast.names import checkpoint_of
from holdfast.stop import StoppedError, StopToken
from holdfast.sync.ledger import Ledger
from holdfast.sync.syncer import Synced, Syncer
from holdfast.transfer import parts

_LOG = logging.getLogger(__name__)

PATIENCE = 600.0
"""Seconds for which a flush without a deadline is tried again while the store does not answer."""
DENIED_PATIENCE = 60.0
"""Seconds for which a denied flush is tried again: an expired token may be renewed, a permission will not appear."""
_STEP_SECONDS = 1.0  # small checkpoints that take no longer than this are committed together
_HOPE = 1.5  # a transfer gives way to another one when it would be late even at this multiple of the rate
_TRIES = 3  # for files that change while they are read, though the script has ended
_UNDER_WAY = 8  # assumed requests at a time: as many as `Concurrency` begins with
_LONGEST_BACKOFF = 60.0
_PAUSE = 0.1


class Flush:
    """The last flush of an attempt. Its progress may be read from other threads.

    The deadline of `stop` is when everything must be durable.
    """

    def __init__(self, syncer: Syncer, *, stop: StopToken) -> None:
        self.dirty = 0
        """Bytes to send when the flush began."""
        self._syncer = syncer
        self._bandwidth = syncer.bandwidth
        self._stop = stop
        self.sending = StopToken(seconds_left=lambda: stop.seconds_left() - self._bandwidth.commit_seconds)
        """Stopped when the time left is needed for the commit itself."""
        self._began, self._sent_before = time.monotonic(), self._bandwidth.sent
        self._stored: Counter[str] = Counter()
        self._missing: dict[str, FileState] = {}
        self._given_way: set[str] = set()
        self._failures = 0

    @property
    def sent(self) -> int:
        """Bytes sent since the flush began."""
        return self._bandwidth.sent - self._sent_before

    def ledger(self) -> Ledger:
        """Return what the flush has done so far."""
        missing = list(self._missing.values())
        left = sum(map(self._syncer.outbox.unsent, missing))
        short = self._bandwidth.seconds_for(left) + self._bandwidth.commit_seconds if missing else 0.0
        return Ledger(
            stored=dict(self._stored),
            missed=dict(_by_checkpoint(missing)),  # `asdict` of a Counter counts its items
            sent=self.sent,
            seconds=time.monotonic() - self._began,
            rate=self._bandwidth.measured,
            short=short,
        )

    def run(self, look: Callable[[], Scan], held: Collection[str]) -> Synced:
        """Store everything but `held`, trying again while there is time; return what the last try did.

        Raises:
            SupersededError: another attempt has taken over.
            StoreError: every try failed.
        """
        tries, began = 0, time.monotonic()
        while True:
            try:
                synced = self.once(look(), held)
            except (TransientStoreError, AccessDeniedError) as error:
                patience = DENIED_PATIENCE if isinstance(error, AccessDeniedError) else PATIENCE
                if self.sending.stopped() or time.monotonic() > began + patience:
                    raise
                self._pause(error)
                if self.sending.stopped():
                    raise
                continue
            tries += 1
            if not synced.unfinished or self.sending.stopped():
                return synced
            reasons = synced.unfinished.values()
            in_vain = next((error for error in reasons if isinstance(error, TransientStoreError)), None)
            if tries >= _TRIES if in_vain is None else time.monotonic() > began + PATIENCE:
                return synced
            if in_vain is not None:
                self._pause(in_vain)
            time.sleep(_PAUSE)

    def _pause(self, error: StoreError) -> None:
        """Wait until the next try or the deadline."""
        self._failures += 1
        pause = min(_LONGEST_BACKOFF, 2.0**self._failures)
        _LOG.warning("the last flush failed and is tried again in %g s: %s", pause, error)
        self.sending.wait(pause)

    def once(self, scan: Scan, held: Collection[str]) -> Synced:
        """Try once: the newest checkpoint that fits first, each committed before the next; then those that hardly fit.

        A transfer that turns out too slow gives way, once, to others that still fit. Errors as `Syncer.sync`.
        """
        syncer, before = self._syncer, self._bandwidth.arrived
        kept_back = set(map(checkpoint_of, held))
        dirty = [state for state in syncer.changes.changed(scan) if state.checkpoint not in kept_back]
        self._missing = {state.path: state for state in dirty}
        self.dirty = self.dirty or sum(map(syncer.outbox.unsent, dirty))
        pending = grouped(dirty, syncer.outbox.unsent)
        finished = syncer.divide(pending)
        syncer.note_unsent(scan, finished, ended=True)
        snapshot = None
        unfinished: dict[str, HoldfastError] = {}
        while True:
            step, others = self._next(self._refined(pending))
            later = {path for group in others for path in group.paths}
            one = syncer.sync(scan, {*held, *later}, stop=self._token(step, others))
            self._note(step, one)
            gave_way = self._gave_way(step, one) if not self.sending.stopped() else []
            goes_on = {path for group in gave_way for path in group.paths}
            unfinished |= {path: error for path, error in one.unfinished.items() if path not in goes_on}
            snapshot = one.snapshot or snapshot
            pending = sorted(
                [*others, *gave_way], key=lambda group: max(state.mtime_ns for state in group.states), reverse=True
            )
            if not pending or self.sending.stopped():
                break
        late = StoppedError("no time was left to send it")
        unfinished |= {path: late for group in pending for path in group.paths}
        never = {path for path, error in unfinished.items() if isinstance(error, CutFileError | FileChangedError)}
        left = [group for group in finished if group.paths & unfinished.keys() and not group.paths & never]
        syncer.note_unsent(scan, left, ended=True)
        return Synced(snapshot, self._bandwidth.arrived - before, unfinished)

    def _refined(self, pending: list[Group]) -> list[Group]:
        """Divide what does not fit into smaller groups that may."""
        return [
            part for group in pending for part in ([group] if self._fits(group.size) else self._syncer.divide([group]))
        ]

    def _next(self, pending: list[Group]) -> tuple[list[Group], list[Group]]:
        """Return what is stored next (the newest that fits; once that is stored, several small ones), and the rest."""
        first = next((index for index, group in enumerate(pending) if self._fits(group.size)), 0)
        end = first + 1
        size = sum(group.size for group in pending[first:end])
        for group in pending[end:] if self._stored else ():
            size += group.size
            if not self._fits(size) or self._bandwidth.seconds_for(size) > _STEP_SECONDS:
                break
            end += 1
        return pending[first:end], pending[:first] + pending[end:]

    def _fits(self, size: float, *, hope: float = 1.0, before: float = 0.0) -> bool:
        needed = self._bandwidth.seconds_for(size) / hope + before + self._bandwidth.commit_seconds
        return needed <= self._stop.seconds_left()

    def _token(self, step: Sequence[Group], others: Sequence[Group]) -> StopToken:
        """Return the token of one step: stopped also when the step is too slow and gives way to another."""
        size, began = sum(group.size for group in step), self._bandwidth.sent
        names = {group.name for group in step}
        part = min(parts.PART_SIZE, max((state.size for group in step for state in group.states), default=0))
        smallest = min((group.size for group in others), default=math.inf)
        gave_way_before = names <= self._given_way

        def is_too_slow() -> bool:
            if gave_way_before or names <= self._given_way:
                return not gave_way_before
            left = max(0, size - (self._bandwidth.sent - began))
            if self._bandwidth.measured is None or self._fits(left, hope=_HOPE):
                return False
            # The parts under way must end before another step begins.
            ending = self._bandwidth.seconds_for(min(left, _UNDER_WAY * part))
            if self._fits(smallest, before=ending):
                self._given_way |= names
            return names <= self._given_way

        return StopToken(self.sending, when=is_too_slow)

    def _gave_way(self, step: Sequence[Group], one: Synced) -> list[Group]:
        """Return what of a step was stopped before the deadline: it goes on after the others."""
        stopped = {path for path, error in one.unfinished.items() if isinstance(error, StoppedError)}
        unsent = self._syncer.outbox.unsent
        return [Group(group.states, sum(map(unsent, group.states))) for group in step if group.paths & stopped]

    def _note(self, step: Sequence[Group], one: Synced) -> None:
        if one.snapshot is not None:
            _LOG.info("%s", one.sentence)
        failed = {checkpoint_of(path) for path in one.unfinished}
        stored = [state for group in step for state in group.states if state.checkpoint not in failed]
        self._stored.update(_by_checkpoint(stored))
        for state in stored:
            self._missing.pop(state.path, None)


def _by_checkpoint(states: Iterable[FileState]) -> Counter[str]:
    sizes: Counter[str] = Counter()
    for state in states:
        sizes[state.checkpoint] += state.size
    return sizes
