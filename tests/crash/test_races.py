"""Of two attempts that start at once each gets its own number, and the newer one's snapshot is the newest."""

from __future__ import annotations

import os

from examples.demo.object_server import ObjectServer
from tests.crash.races import race
from tests.crash.scenario import new_world

RACES = int(os.environ.get("HOLDFAST_RACES", "40"))
"""How many: `make crash` runs a thousand."""


def test_two_attempts_at_once_on_disk_tear_nothing_of_each_other() -> None:
    for number in range(RACES):
        with new_world() as world:
            race(world, f"{number}.first")
            race(world, f"{number}.second")


def test_two_attempts_at_once_on_s3_tear_nothing_of_each_other(s3_server: ObjectServer) -> None:
    for number in range(-(-RACES // 10)):
        with new_world(s3_server.environment, s3_server.bucket) as world:
            race(world, f"{number}")
