"""The program behind docs/scale.md, with a few files and hosts: what it says does not come out of thin air."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import scale
from benchmarks.scale import PAGE, many_files, many_hosts


def test_a_change_of_one_file_costs_one_list_and_one_record() -> None:
    costs = {cost.what: cost for cost in many_files(20_000)}
    first, changed = costs["first commit, its record and lists"], costs["commit of one changed file"]
    assert first.requests["put"] > 2
    assert changed.requests == {"put": 2}
    assert changed.written["commits"] < 2_000
    assert changed.written["lists"] < first.written["lists"]


def test_a_restart_asks_for_the_listing_the_record_and_the_lists() -> None:
    restart = many_files(20_000)[-1]
    lists = restart.requests["get"] - 1
    assert restart.requests == {"list": 20_000 // PAGE + 3, "put": 2, "get": 1 + lists}
    assert 1 <= lists < 20


def test_the_report_of_a_host_does_not_depend_on_how_many_there_are() -> None:
    for hosts in (2, 12):
        costs = {cost.what: cost for cost in many_hosts(hosts)}
        assert costs["report of one host, once a minute"].requests == {"put": 1}
        assert costs["restart of a host that joins"].requests["get"] >= hosts


@pytest.mark.parametrize(("hosts", "commits"), [(2, 6), (12, 6), (30, 60), (60, 60)])
def test_retention_asks_for_the_same_however_many_hosts_commit_however_often(hosts: int, commits: int) -> None:
    costs = {cost.what: cost for cost in many_hosts(hosts, commits)}
    retention = costs["of these, retention"].requests
    looks = min(60, 3_600 / (2 * hosts) + 1)  # of each host; one a minute at most
    assert retention["get"] + retention["head"] <= 3 * hosts * looks <= 5_400 + 3 * hosts
    assert retention["put"] <= looks
    assert retention["list"] <= 2 * looks, "the first host alone lists the records"
    assert retention["delete"] >= (commits + 60 - 6) * hosts, "what is committed in an hour goes in an hour"


def test_the_page_is_written_with_the_prices_that_were_given(tmp_path: Path) -> None:
    page = tmp_path / "scale.md"
    scale.main(["--files", "3000", "--hosts", "3", "--put-price", "7", "--markdown", str(page)])
    text = page.read_text()
    assert "$7.0 for 1,000 PUT" in text
    assert "| store 3,000 files of less than 64 MiB | 0 | 3,000 | 0 | 0 |" in text
    assert "| 21.00 |" in text
