"""Lives that are killed: at every operation of one scenario, and at some of many."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from examples.demo.object_server import ObjectServer
from tests.crash import campaign
from tests.crash.fuse import Decide, Operation, at
from tests.crash.life import Ending, Plan
from tests.crash.operations import Disk
from tests.crash.scenario import Case, Stage, Tally, new_world, small_parts

SECOND = "second-143"
"""The seed of a life that does nearly everything that a life can do."""

ALL = {
    *("list", "head", "read record", "read plain", "read list", "write", "rename", "link", "replace"),
    *("put claim", "put fence", "put plain", "put content", "put list", "put record"),
    *("begin upload", "put part", "complete upload", "copy part", "copy to plain", "copy to preserved"),
    *("delete record", "delete list", "delete plain", "delete preserved"),
}


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    with small_parts(), disk.installed():
        yield disk


def never(*_: object) -> None:
    return None


def live_three_lives(disk: Disk, tally: Tally, decide: Decide, *, process: bool = False) -> list[Operation]:
    """Live a first life, a second one on another machine that may be killed, and a third where the second was.

    Return the operations of the second, when it is no process of its own.
    """
    with new_world() as world:
        stage = Stage(world, disk, tally)
        one, two = world.machine(), world.machine()
        stage.live(Plan("first", one, 5, Ending.DONE, most_inline=0), never)
        world.intrude("foreign/model.bin")
        operations = stage.live(Plan(SECOND, two, 5, Ending.DONE, large=0.1, most_inline=2), decide, process=process)
        stage.live(Plan("third", two, 2, Ending.DONE, most_inline=0), never)
    return operations


def test_every_operation_of_a_life_can_be_its_last(disk: Disk) -> None:
    operations = live_three_lives(disk, Tally(), never)
    assert {operation.name for operation in operations} >= ALL
    points = [(number, moment) for number, operation in enumerate(operations) for moment in operation.moments]
    tally = Tally()
    for turn, (number, moment) in enumerate(points):
        live_three_lives(disk, tally, at(number, moment), process=turn % 3 == 0)
    assert tally.killed == len(points)
    assert {way for _, way, *_ in tally.kills} == {"SIGKILL", "raised"}


def test_a_hundred_kills_on_disk_tear_nothing_and_lose_nothing() -> None:
    tally = campaign.run([Case(seed=7, number=number) for number in range(60)], None)
    assert tally.failures == []
    assert tally.killed > 100


def test_kills_on_s3_tear_nothing_and_lose_nothing(s3_server: ObjectServer) -> None:
    server = campaign.Server(s3_server.environment, s3_server.bucket, every=1)
    tally = campaign.run([Case(seed=7, number=number) for number in range(4)], server)
    assert tally.failures == []
    assert {store for store, *_ in tally.kills} == {"s3"}
