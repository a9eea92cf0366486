"""Flushing: what is dirty becomes durable before a deadline, as many complete checkpoints as can make it."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from holdfast.errors import (
    AccessDeniedError,
    CutFileError,
    FileChangedError,
    HoldfastError,
    StoreError,
    TransientStoreError,
)
from holdfast.local.groups import Unit, split, units
from holdfast.local.scan import FileState, Scan
from holdfast.names import checkpoint_of
from holdfast.stop import StoppedError, StopToken
from holdfast.sync.ledger import Ledger
from holdfast.sync.syncer import Synced, Syncer
from holdfast.transfer import parts
from holdfast.workers.bandwidth import Bandwidth

_LOG = logging.getLogger(__name__)

PATIENCE = 600.0
"""Seconds for which a flush is tried again when the store does not answer and nobody presses."""
DENIED_PATIENCE = 60.0
"""The same where the store denies: a token that expired may be renewed, a missing permission will not come."""
_STEP_SECONDS = 1.0  # what is so small that it takes no longer is committed together
_HOPE = 1.5  # a transfer under way is given up for another one when it would be late at this multiple of the rate
_TRIES = 3  # for files that change while they are read, though the script has ended
_UNDER_WAY = 8  # requests at a time that a flush reckons with: as many as `Concurrency` begins with
_LONGEST_BACKOFF = 60.0
_PAUSE = 0.1


class Flush:
    """One flush at the end of one life. It may be looked at from other threads.

    Args:
        syncer: does the work.
        stop: its deadline is when everything must be durable; it may appear and move.
    """

    def __init__(self, syncer: Syncer, *, stop: StopToken) -> None:
        self.dirty = 0
        """Bytes that had to travel when it began."""
        self._syncer = syncer
        self._bandwidth: Bandwidth = syncer.bandwidth
        self._stop = stop
        self.sending = StopToken(seconds_left=lambda: stop.seconds_left() - self._bandwidth.commit_seconds)
        """Stopped when what is left of the time is needed for the commit itself."""
        self._began, self._sent_before = time.monotonic(), self._bandwidth.sent
        self._stored: Counter[str] = Counter()
        self._missing: dict[str, FileState] = {}
        self._given_way: set[str] = set()
        self._failures = 0

    @property
    def sent(self) -> int:
        """Bytes that have travelled since it began."""
        return self._bandwidth.sent - self._sent_before

    def ledger(self) -> Ledger:
        """Return what it has done so far."""
        missing = list(self._missing.values())
        left = max(0, sum(map(self._syncer.unsent, missing)))
        short = self._bandwidth.seconds_for(left) + self._bandwidth.commit_seconds if missing else 0.0
        return Ledger(
            stored=dict(self._stored),
            missed=dict(_by_checkpoint(missing)),
            sent=self.sent,
            seconds=time.monotonic() - self._began,
            rate=self._bandwidth.measured,
            short=short,
        )

    def run(self, look: Callable[[], Scan], held: Collection[str]) -> Synced:
        """Store everything but `held`; what fails is tried again while there is time.

        Args:
            look: looks at the directory.
            held: paths that may not be taken.

        Returns:
            What the last try did.

        Raises:
            SupersededError: another attempt has taken over.
            StoreError: the store did not take it, for as long as it was tried.
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
            reasons = synced.unfinished.values()
            in_vain = next((error for error in reasons if isinstance(error, TransientStoreError)), None)
            if not synced.unfinished or self.sending.stopped():
                return synced
            if in_vain is None and tries >= _TRIES:
                return synced
            if in_vain is not None:
                if time.monotonic() > began + PATIENCE:
                    return synced
                self._pause(in_vain)
            time.sleep(_PAUSE)

    def _pause(self, error: StoreError) -> None:
        """Wait until the next try, or until the time is up."""
        self._failures += 1
        pause = min(_LONGEST_BACKOFF, 2.0**self._failures)
        _LOG.warning("the last flush failed and is tried again in %g s: %s", pause, error)
        self.sending.wait(pause)

    def once(self, scan: Scan, held: Collection[str]) -> Synced:
        """Try once: the newest that can make it first, each committed before the next; then what can hardly make it.

        A transfer that turns out to be too slow gives way, once, to others that can still make it.

        Args and errors as `Syncer.sync`; the snapshot is the last that was committed.
        """
        syncer, before = self._syncer, self._syncer.uploaded
        kept_back = {checkpoint_of(path) for path in held}
        dirty = [state for state in syncer.changed(scan) if state.checkpoint not in kept_back]
        self._missing = {state.path: state for state in dirty}
        self.dirty = self.dirty or sum(map(syncer.unsent, dirty))
        pending = units(dirty, syncer.unsent)
        finished = self._split(pending)
        syncer.note_unsent(scan, finished, at_rest=True)
        done = Synced(None, 0, {})
        unfinished: dict[str, HoldfastError] = {}
        while True:
            pending = self._refined(pending)
            step = self._next(pending)
            taken = set(map(id, step))
            others = [unit for unit in pending if id(unit) not in taken]
            later = {path for unit in others for path in unit.paths}
            one = syncer.sync(scan, {*held, *later}, stop=self._token(step, others))
            self._note(step, one)
            gave_way = self._gave_way(step, one) if not self.sending.stopped() else []
            goes_on = {path for unit in gave_way for path in unit.paths}
            unfinished |= {path: error for path, error in one.unfinished.items() if path not in goes_on}
            done = Synced(one.snapshot or done.snapshot, syncer.uploaded - before, unfinished)
            pending = sorted([*others, *gave_way], key=_newest, reverse=True)
            if not pending or self.sending.stopped():
                break
        late = StoppedError("no time was left to send it")
        unfinished |= {path: late for unit in pending for path in unit.paths}
        self._leave(scan, finished, unfinished)
        return Synced(done.snapshot, done.bytes_uploaded, unfinished)

    def _refined(self, pending: list[Unit]) -> list[Unit]:
        """Split what does not fit into smaller units that may."""
        return [part for unit in pending for part in ([unit] if self._fits(unit.size) else self._split([unit]))]

    def _split(self, pending: Sequence[Unit]) -> list[Unit]:
        before = self._syncer.stored_before({state.path for unit in pending for state in unit.states})
        return [part for unit in pending for part in split(unit, self._syncer.unsent, before)]

    def _leave(self, scan: Scan, finished: Sequence[Unit], unfinished: Mapping[str, HoldfastError]) -> None:
        """Note what the next life on this directory is to send."""
        never = {path for path, error in unfinished.items() if isinstance(error, CutFileError | FileChangedError)}
        left = [unit for unit in finished if unit.paths & unfinished.keys() and not unit.paths & never]
        self._syncer.note_unsent(scan, left, at_rest=True)

    def _next(self, pending: Sequence[Unit]) -> list[Unit]:
        """Return what goes next: the newest that fits; once that is stored, small ones together."""
        step: list[Unit] = []
        size = 0
        for unit in pending:
            quick = self._stored and self._bandwidth.seconds_for(size + unit.size) <= _STEP_SECONDS
            if self._fits(size + unit.size) and (not step or quick):
                step.append(unit)
                size += unit.size
            elif step:
                break
        return step or list(pending[:1])

    def _fits(self, size: float, *, hope: float = 1.0, before: float = 0.0) -> bool:
        needed = self._bandwidth.seconds_for(size) / hope + before + self._bandwidth.commit_seconds
        return needed <= self._stop.seconds_left()

    def _token(self, step: Sequence[Unit], others: Sequence[Unit]) -> StopToken:
        """Return the token of one step: stopped also when it is too slow, and gives way to another."""
        size, began = sum(unit.size for unit in step), self._bandwidth.sent
        names = {unit.name for unit in step}
        piece = min(parts.PART_SIZE, max((state.size for unit in step for state in unit.states), default=0))

        smallest = min((unit.size for unit in others), default=math.inf)
        had_its_turn = names <= self._given_way
        gives_way = threading.Event()

        def is_too_slow() -> bool:
            if gives_way.is_set():
                return True
            left = max(0, size - (self._bandwidth.sent - began))
            if had_its_turn or self._bandwidth.measured is None or self._fits(left, hope=_HOPE):
                return False
            # What is under way must end before anything else begins.
            ending = self._bandwidth.seconds_for(min(left, _UNDER_WAY * piece))
            if self._fits(smallest, before=ending):
                self._given_way |= names
                gives_way.set()
            return gives_way.is_set()

        return StopToken(self.sending, when=is_too_slow)

    def _gave_way(self, step: Sequence[Unit], one: Synced) -> list[Unit]:
        """Return what of a step was stopped though there was time left: it goes on when others are done."""
        stopped = {path for path, error in one.unfinished.items() if isinstance(error, StoppedError)}
        return [Unit(unit.states, sum(map(self._syncer.unsent, unit.states))) for unit in step if unit.paths & stopped]

    def _note(self, step: Sequence[Unit], one: Synced) -> None:
        if one.snapshot is not None:
            _LOG.info("%s", one.sentence)
        states = [state for unit in step for state in unit.states]
        failed = {checkpoint_of(path) for path in one.unfinished}
        stored = [state for state in states if state.checkpoint not in failed]
        self._stored.update(_by_checkpoint(stored))
        for state in stored:
            self._missing.pop(state.path, None)


def _by_checkpoint(states: Iterable[FileState]) -> Counter[str]:
    sizes: Counter[str] = Counter()
    for state in states:
        sizes[state.checkpoint] += state.size
    return sizes


def _newest(unit: Unit) -> int:
    return max(state.mtime_ns for state in unit.states)
