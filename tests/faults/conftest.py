"""A job whose way to its S3 server is broken as a test says."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from examples.demo.object_server import ObjectServer
from tests.faults.proxy import FaultyProxy
from tests.lifecycle.conftest import start

from holdfast.attempts import claim, fence
from holdfast.restore.base import Base
from holdfast.restore.request import Restored
from holdfast.restore.restorer import restore
from holdfast.snapshot import catalog
from holdfast.snapshot.record import Snapshot
from holdfast.snapshot.records import load_record
from holdfast.snapshot.verify import verify
from holdfast.store import Store
from holdfast.store.backoff import RetryPolicy
from holdfast.store.location import Location
from holdfast.store.open import open_store
from holdfast.sync.assemble import Engine, assemble
from holdfast.sync.syncer import Synced, Syncer

__all__ = ["start"]

QUICK = RetryPolicy(first_pause=0.01, longest_pause=0.1)
"""As many tries as always, with pauses that no test has to wait for."""


class Job:
    """A prefix in a bucket, reached through a faulty proxy or past it, and machines that come and go.

    Args:
        root: a directory of the test's own; each machine's checkpoint directory lies below it.
        proxy: the way that is broken.
        server: the server behind it.
        prefix: where the checkpoints live.
        workers: run the transfers.
    """

    def __init__(
        self, root: Path, proxy: FaultyProxy, server: ObjectServer, prefix: str, workers: ThreadPoolExecutor
    ) -> None:
        self.proxy = proxy
        self._root = root
        self._server = server
        self.prefix = prefix
        self._workers = workers

    def environ(self, **more: str | None) -> dict[str, str | None]:
        """Return the variables of a life that goes through the proxy."""
        return {
            **self._server.environment,
            "AWS_ENDPOINT_URL_S3": self.proxy.endpoint,
            "CHECKPOINT_S3_URI": f"s3://{self._server.bucket}/{self.prefix}",
            **more,
        }

    def store(self, environ: Mapping[str, str] | None = None, *, policy: RetryPolicy = QUICK) -> Store:
        """Open the prefix through the proxy."""
        settings = {**self._server.environment, "AWS_ENDPOINT_URL_S3": self.proxy.endpoint, **(environ or {})}
        return open_store(Location("s3", self._server.bucket, self.prefix), settings, policy=policy)

    def past_the_proxy(self) -> Store:
        return open_store(Location("s3", self._server.bucket, self.prefix), self._server.environment)

    def write(self, path: str, content: bytes) -> None:
        target = self._root / "engine" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def syncer(self, store: Store | None = None) -> Syncer:
        """Begin an attempt on the directory that `write` fills."""
        store = store or self.store()
        found = catalog.read_catalog(store)
        claimed = claim.claim(store, found.attempts, claim.Claimant("h", "0", "local"), started=datetime.now(UTC))
        return assemble(
            Engine(store=store, workers=self._workers, clock=lambda: datetime.now(UTC)),
            self._root / "engine",
            claimed,
            Base(found=fence.fence(store, found, claimed)),
        )

    def sync(self, syncer: Syncer) -> Synced:
        return syncer.sync(syncer.scan())

    def restore(self, machine: str, store: Store | None = None) -> Restored:
        store = store or self.store()
        found = catalog.read_catalog(store)
        return restore(store, found, self._root / machine, workers=self._workers)

    def verify(self) -> list[str]:
        """Return what `holdfast verify` finds wrong with the newest snapshot, through the proxy."""
        store = self.store()
        snapshot = load_record(store, catalog.read_catalog(store).snapshots[-1])
        assert isinstance(snapshot, Snapshot)
        return verify(store, snapshot, {}, workers=self._workers, progress=lambda size: None)

    def restored(self) -> dict[str, bytes]:
        """Return the files that a fresh machine gets, past the proxy."""
        machine = f"fresh {len(list(self._root.glob('fresh *')))}"
        self.restore(machine, self.past_the_proxy())
        return files_of(self._root / machine)

    def files(self, machine: str) -> dict[str, bytes]:
        return files_of(self._root / machine)

    def keys(self) -> list[str]:
        return [info.key for info in self.past_the_proxy().list("")]

    def unfinished_uploads(self) -> int:
        answer = self._server.client.list_multipart_uploads(Bucket=self._server.bucket, Prefix=f"{self.prefix}/")
        return len(answer.get("Uploads", []))


def files_of(directory: Path) -> dict[str, bytes]:
    """Return what a script sees in its checkpoint directory: path → content."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and ".holdfast" not in path.parts
    }


@pytest.fixture
def proxy(s3_server: ObjectServer) -> Iterator[FaultyProxy]:
    """A way to the server that is broken as the test says. A fault that never happened fails its test."""
    with FaultyProxy(s3_server.endpoint) as made:
        yield made
        idle = [(rule.pattern.pattern, rule.fault) for rule in made.rules if not rule.fired]
        assert not idle, f"faults that never happened, so this test has shown nothing: {idle}"


@pytest.fixture
def job(tmp_path: Path, proxy: FaultyProxy, s3_server: ObjectServer, request: pytest.FixtureRequest) -> Iterator[Job]:
    prefix = f"faults/{request.node.name}/{os.getpid()}"
    with ThreadPoolExecutor(8) as workers:
        yield Job(tmp_path, proxy, s3_server, prefix, workers)
