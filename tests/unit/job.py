"""A prefix on a real directory, and machines that come and go: what the tests of the engines work with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from holdfast.attempts import claim, fence
from holdfast.local.unsent import Unsent
from holdfast.maintenance.retention import Retention
from holdfast.restore.background import BackgroundRestore
from holdfast.restore.plan import Mode
from holdfast.restore.request import EVERYTHING, Request, Restored
from holdfast.restore.restorer import restore
from holdfast.snapshot import candidates, catalog
from holdfast.snapshot.attempt import Attempt
from holdfast.stop import NEVER, StopToken
from holdfast.store import Condition, Metadata, Part, Store
from holdfast.store.directory.store import DirectoryStore
from holdfast.sync.assemble import Engine, assemble
from holdfast.sync.syncer import Synced, Syncer
from holdfast.workers.bandwidth import Bandwidth


class Breaks(DirectoryStore):
    """A store on a real directory that does something else at some puts."""

    def __init__(self, root: Path, instead: Callable[[str], None]) -> None:
        super().__init__(root)
        self._instead = instead

    def put(self, key: str, part: Part, *, metadata: Metadata | None = None, condition: Condition | None = None) -> str:
        self._instead(key)
        return super().put(key, part, metadata=metadata, condition=condition)


class Reads(DirectoryStore):
    """A store on a real directory that does something else before some reads."""

    def __init__(self, root: Path, before: Callable[[str], None]) -> None:
        super().__init__(root)
        self._before = before

    def read(
        self,
        key: str,
        *,
        offset: int = 0,
        size: int | None = None,
        etag: str | None = None,
        sink: Callable[[memoryview], None],
    ) -> None:
        self._before(key)
        super().read(key, offset=offset, size=size, etag=etag, sink=sink)


class Job:
    """A prefix, and machines that come and go."""

    def __init__(self, root: Path, workers: ThreadPoolExecutor) -> None:
        self.root = root
        self.workers = workers
        self.drivers: ThreadPoolExecutor | None = None
        (root / "store").mkdir()
        self.store: Store = DirectoryStore(root / "store")

    def restore(
        self, machine: str, only: Sequence[str] | None = None, request: Request = EVERYTHING, **options: Any
    ) -> Restored:
        found = catalog.read_catalog(self.store)
        if only is not None:
            chosen = [candidates.of(self.store, found, only, self.workers)]
            request = replace(request, candidates=chosen, adopt=False)
        return restore(self.store, found, self.root / machine, request, workers=self.workers, **options)

    def syncer(
        self,
        machine: str,
        store: Store | None = None,
        retention: Retention | None = None,
        bandwidth: Bandwidth | None = None,
    ) -> Syncer:
        found = catalog.read_catalog(self.store)
        claimed = claim.claim(self.store, found.attempts, claim.Claimant("h", "0", "local"), started=datetime.now(UTC))
        fence.fence(self.store, found, claimed)
        return self.syncer_of(claimed, machine, store, retention, bandwidth)

    def resumed(self, machine: str, mode: Mode) -> tuple[Restored, Syncer, BackgroundRestore]:
        """Begin an attempt that restores no more than the mode says."""
        found = catalog.read_catalog(self.store)
        claimed = claim.claim(self.store, found.attempts, claim.Claimant("h", "0", "local"), started=datetime.now(UTC))
        fence.fence(self.store, found, claimed)
        done = self.restore(machine, request=Request(attempt=claimed, mode=mode))
        syncer = self.syncer_of(claimed, machine, restored=done)
        return done, syncer, self.background(machine, done, syncer)

    def next_life(self, machine: str, mode: Mode = Mode.ALL, place: str = "file:///store") -> tuple[Restored, Syncer]:
        """Begin an attempt that goes on with what an earlier one has left on the machine."""
        found = catalog.read_catalog(self.store)
        claimed = claim.claim(self.store, found.attempts, claim.Claimant("h", "0", "local"), started=datetime.now(UTC))
        left = Unsent(self.root / machine, place, workers=self.workers)
        done = self.restore(machine, request=Request(attempt=claimed, mode=mode, unsent=left))
        return done, self.syncer_of(claimed, machine, restored=done, unsent=left)

    def background(self, machine: str, done: Restored, syncer: Syncer, store: Store | None = None) -> BackgroundRestore:
        return BackgroundRestore(
            store or self.store,
            self.root / machine,
            done,
            deferred=syncer.deferred,
            located=syncer.changes.located,
            workers=self.workers,
            stop=NEVER,
        )

    def syncer_of(
        self,
        claimed: Attempt,
        machine: str,
        store: Store | None = None,
        retention: Retention | None = None,
        bandwidth: Bandwidth | None = None,
        restored: Restored | None = None,
        unsent: Unsent | None = None,
    ) -> Syncer:
        return assemble(
            Engine(
                store=store or self.store,
                workers=self.workers,
                drivers=self.drivers,
                clock=lambda: datetime.now(UTC),
                bandwidth=bandwidth,
            ),
            self.root / machine,
            claimed,
            (restored or self.restore(machine)).base,
            retention=retention,
            unsent=unsent,
        )

    def write(self, path: str, content: bytes, machine: str = "one") -> Path:
        target = self.root / machine / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return target


def sync(syncer: Syncer, held: tuple[str, ...] = (), *, stop: StopToken = NEVER) -> Synced:
    return syncer.sync(syncer.scan(), held, stop=stop)
