"""Two attempts that are alive at the same time on one prefix: both started at once, neither knows of the other."""

from __future__ import annotations

import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from tests.crash.fuse import Fuse
from tests.crash.life import Ending, Life, Plan
from tests.crash.operations import Disk
from tests.crash.world import Broken, World

from holdfast.maintenance.retention import Retention


def race(world: World, name: str) -> None:
    """Let two attempts live at once, to their ends.

    Raises:
        Broken: a number was given twice, one has torn the other, or the newer one's last commit is not what a restore
            gives.
    """
    before = len(world.journal.claims)
    world.crowded = True
    start = threading.Barrier(2)
    failures: list[str] = []

    machines = [world.machine() for _ in range(2)]

    def live(number: int) -> None:
        plan = Plan(f"{name}.{number}", machines[number], 3, Ending.DONE, Retention(last=1))
        with ThreadPoolExecutor(2) as workers, closing(Life(world, plan, Fuse(), Disk(), workers)) as life:
            start.wait()
            try:
                life.live()
            except Exception:  # noqa: BLE001  whatever it is, it is the finding
                failures.append(traceback.format_exc())

    threads = [threading.Thread(target=live, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise Broken(failures[0])
    world.check()
    if sorted(world.journal.claims[before:]) != [before + 1, before + 2]:
        raise Broken(f"two attempts after {before} got the numbers {world.journal.claims[before:]}")
