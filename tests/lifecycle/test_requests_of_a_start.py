"""Requests of a start to an S3 server."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from urllib.parse import unquote

import pytest
from examples.demo.object_server import ObjectServer
from tests.faults.proxy import FaultyProxy
from tests.lifecycle.conftest import Start

WRITES = """
import sys
import holdfast
for number in range(int(sys.argv[1])):
    (holdfast.checkpoint_dir() / f"{number:04d}.pt").write_bytes(b"%d" % number)
"""


@pytest.fixture
def proxy(s3_server: ObjectServer) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3_server.endpoint) as made:
        yield made


@pytest.fixture
def environ(s3_server: ObjectServer, proxy: FaultyProxy, request: pytest.FixtureRequest) -> dict[str, str | None]:
    uri = f"s3://{s3_server.bucket}/{request.node.name}"
    return {**s3_server.environment, "AWS_ENDPOINT_URL_S3": proxy.endpoint, "CHECKPOINT_S3_URI": uri}


def requests(proxy: FaultyProxy) -> list[str]:
    """Return the method of each request, and the key below the prefix."""
    return [f"{request.method} {_what(unquote(request.target))}" for request in proxy.seen]


def _what(target: str) -> str:
    listed = re.search(r"[?&]prefix=[^/&]*/([^&]*)", target)
    return f"list {listed[1]}".strip() if listed else target.partition("?")[0].split("/", 3)[3]


def test_a_start_on_an_empty_prefix_lists_and_claims(
    start: Start, proxy: FaultyProxy, environ: dict[str, str | None]
) -> None:
    assert start("true", environ=environ).exit_code() == 0
    claim = "PUT .holdfast/attempts/000001.json"
    assert requests(proxy) == ["GET list", claim, claim], "the second shows whether the store honours conditions"


def test_a_restart_with_nothing_changed_makes_five_requests(
    start: Start, proxy: FaultyProxy, environ: dict[str, str | None]
) -> None:
    assert start(sys.executable, "-c", WRITES, "3", environ=environ).exit_code() == 0
    proxy.seen.clear()
    run = start("true", environ=environ)
    assert run.exit_code() == 0, run.log
    assert run.report["files_restored"] == 3
    assert requests(proxy) == [
        "GET list",
        "GET .holdfast/commits/000001-000001.json",
        "PUT .holdfast/attempts/000002.json",
        "PUT .holdfast/commits/000001-000002.json",
        "GET list .holdfast/commits/",
    ]


def test_a_restart_makes_one_more_request_for_every_thousand_files_and_for_every_list(
    start: Start, proxy: FaultyProxy, environ: dict[str, str | None]
) -> None:
    assert start(sys.executable, "-c", WRITES, "2100", environ=environ).exit_code() == 0
    proxy.seen.clear()
    run = start("true", environ=environ)
    assert run.exit_code() == 0, run.log
    assert run.report["files_restored"] == 2100
    kinds = Counter(re.sub(r"/[^/]*[0-9].*", "/", request) for request in requests(proxy))
    lists = kinds.pop("GET .holdfast/lists/")
    assert kinds == {
        "GET list": 3,  # 2,100 files and a few objects of holdfast
        "GET .holdfast/commits/": 1,
        "PUT .holdfast/attempts/": 1,
        "PUT .holdfast/commits/": 1,
        "GET list .holdfast/commits/": 1,
    }
    assert lists < 4
