"""A flush without the bandwidth for everything: what fits the deadline is stored, and the rest is named."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from examples.demo.object_server import ObjectServer
from tests.faults.proxy import Fault, FaultyProxy
from tests.lifecycle.conftest import Start
from tests.lifecycle.supervised import Supervised
from tests.servers import error

from holdfast.errors import StoreError
from holdfast.store import Store
from holdfast.store.location import Location
from holdfast.store.open import open_store

SAVES_TWO_AT_THE_END = """
import os, signal, sys, time
import holdfast
signal.signal(signal.SIGTERM, lambda *_: None)
directory = holdfast.checkpoint_dir()
(directory / "first").mkdir()
(directory / "first/weights").write_bytes(os.urandom(4_000_000))
print("ready", flush=True)
while not holdfast.interrupted():
    time.sleep(0.02)
for name, size in (("older", 1_000_000), ("newest", int(sys.argv[1]))):
    (directory / name).mkdir()
    (directory / name / "weights").write_bytes(os.urandom(size))
    time.sleep(0.05)
"""


@pytest.fixture
def proxy(s3_server: ObjectServer) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3_server.endpoint) as made:
        yield made


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return f"deadline/{request.node.name}/{os.getpid()}"


def environ(server: ObjectServer, proxy: FaultyProxy, prefix: str, **more: str) -> dict[str, str]:
    return {
        **server.environment,
        "AWS_ENDPOINT_URL_S3": proxy.endpoint,
        "CHECKPOINT_S3_URI": f"s3://{server.bucket}/{prefix}",
        **more,
    }


def ready(
    start: Start, server: ObjectServer, proxy: FaultyProxy, prefix: str, *, newest: int, grace: int
) -> Supervised:
    """Start a job that has committed one snapshot, and saves two more checkpoints when it is stopped.

    Args:
        newest: bytes of the second.
        grace: HOLDFAST_GRACE_SECONDS.
    """
    variables = environ(server, proxy, prefix, HOLDFAST_GRACE_SECONDS=str(grace))
    run = start(sys.executable, "-c", SAVES_TWO_AT_THE_END, str(newest), environ=variables)
    run.wait_for_log("snapshot 000001-000001")
    return run


def has(store: Store, key: str) -> bool:
    try:
        store.head(key)
    except StoreError:
        return False
    return True


def test_a_checkpoint_that_still_fits_is_stored_before_a_newer_one_that_does_not(
    start: Start, s3_server: ObjectServer, proxy: FaultyProxy, prefix: str
) -> None:
    proxy.always("PUT .*weights", Fault(bytes_per_second=1_000_000))
    run = ready(start, s3_server, proxy, prefix, newest=40_000_000, grace=10)
    run.signal()
    assert run.exit_code() == 75, run.log
    assert list(run.report["flush"]["stored"]) == ["older"]
    assert list(run.report["flush"]["missed"]) == ["newest"]
    assert run.report["flush"]["short"] > 20
    assert "the last flush stored 1 of 2 checkpoints" in run.log
    assert "'newest' (40,000,000 bytes)" in run.log
    assert "raise the stop time and HOLDFAST_GRACE_SECONDS" in run.log
    store = open_store(Location("s3", s3_server.bucket, prefix), s3_server.environment)
    assert has(store, "older/weights")
    assert not has(store, "newest/weights")


def test_with_time_for_both_the_newest_goes_first_and_all_is_stored(
    start: Start, s3_server: ObjectServer, proxy: FaultyProxy, prefix: str
) -> None:
    run = ready(start, s3_server, proxy, prefix, newest=2_000_000, grace=60)
    run.signal()
    assert run.exit_code() == 143, run.log
    assert list(run.report["flush"]["stored"]) == ["newest", "older"]
    assert run.report["flush"]["missed"] == {}
    assert run.report["flush"]["short"] == 0
    puts = [exchange.target for exchange in proxy.seen if exchange.method == "PUT" and "weights" in exchange.target]
    assert [target.split("/")[-2] for target in puts] == ["first", "newest", "older"]


def test_the_progress_of_a_long_flush_is_logged(
    start: Start, s3_server: ObjectServer, proxy: FaultyProxy, prefix: str
) -> None:
    proxy.on("PUT .*newest", Fault(bytes_per_second=100_000))
    run = ready(start, s3_server, proxy, prefix, newest=1_500_000, grace=60)
    run.signal()
    run.wait_for_log("flushing: ")
    assert run.exit_code() == 143, run.log
    assert "of 2,500,000 bytes" in run.log


def test_a_token_that_expired_in_the_flush_is_asked_for_again_while_there_is_time(
    start: Start, s3_server: ObjectServer, proxy: FaultyProxy, prefix: str
) -> None:
    run = ready(start, s3_server, proxy, prefix, newest=1_000, grace=60)
    denied = proxy.on("PUT .*(newest|older)", Fault(instead=error(403, "AccessDenied", "Access Denied")), times=2)
    run.signal()
    assert run.exit_code() == 143, run.log
    assert denied.fired == 2
    assert "the last flush failed and is tried again" in run.log
