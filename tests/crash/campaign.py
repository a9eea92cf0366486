"""The crash campaign: thousands of lives killed at chosen operations, and nothing torn and nothing lost.

python -m tests.crash.campaign --kills 10000 --seed 1
python -m tests.crash.campaign --seed 1 --case 417      # the same case again
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from itertools import count, islice
from multiprocessing import get_context

from examples.demo.object_server import serve_objects
from tests.crash.operations import Disk
from tests.crash.scenario import MOST_LIVES, Case, Tally, new_world, small_parts
from tests.crash.world import World

S3_EVERY = 40
"""One case of so many is on an S3 server."""
_CHUNK = 20
_MOST_FAILURES = 5
_NOWHERE = logging.NullHandler()


@dataclass(frozen=True, slots=True)
class Server:
    """An S3 server, and which cases use it.

    Attributes:
        environment: in which it is found.
        bucket: on it.
        every: one case of so many.
        takes_small_parts: as in `new_world`.
    """

    environment: Mapping[str, str]
    bucket: str
    every: int = S3_EVERY
    takes_small_parts: bool = False


def play(case: Case, server: Server | None, tally: Tally) -> str | None:
    """Live one case; return what went wrong, if anything did."""
    on_s3 = server is not None and case.number % server.every == server.every - 1
    disk = Disk()
    with (
        small_parts(),
        _world(server if on_s3 else None) as world,
        disk.installed(),
    ):
        try:
            case.play(world, disk, tally)
        except Exception:  # noqa: BLE001  whatever it is, it is the finding
            return traceback.format_exc()
        finally:
            disk.fuse = None
    return None


def _world(server: Server | None) -> AbstractContextManager[World]:
    if server is None:
        return new_world()
    return new_world(server.environment, server.bucket, takes_small_parts=server.takes_small_parts)


def shrink(case: Case, server: Server | None) -> Case:
    """Return the case with as few lives and moves as still break something."""
    for life in range(MOST_LIVES):
        candidate = replace(case, lives=(case.lives or frozenset(range(MOST_LIVES))) - {life})
        if play(candidate, server, Tally()) is not None:
            case = candidate
    for moves in range(1, case.moves):
        if play(replace(case, moves=moves), server, Tally()) is not None:
            return replace(case, moves=moves)
    return case


def command(case: Case, server: Server | None) -> str:
    """Return the command that replays a case."""
    line = f"python -m tests.crash.campaign --seed {case.seed} --case {case.number}"
    if (server.every if server else 0) != S3_EVERY:
        line += f" --s3-every {server.every if server else 0}"
    if case.lives is not None:
        line += f" --lives {','.join(map(str, sorted(case.lives)))}"
    return line + (f" --moves {case.moves}" if case.moves != Case(0, 0).moves else "")


def run(cases: Iterable[Case], server: Server | None) -> Tally:
    """Live cases, one after the other."""
    logging.getLogger("holdfast").addHandler(_NOWHERE)  # thousands of lives warn of thousands of crashes
    tally = Tally()
    for case in cases:
        failure = play(case, server, tally)
        if failure is not None:
            tally.failures.append(f"{failure}\nreplay: {command(shrink(case, server), server)}")
    return tally


def campaign(kills: int, seed: int, jobs: int, server: Server | None) -> Tally:
    """Live cases until so many lives have been killed."""
    tally = Tally()
    numbers = count()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running: set[Future[Tally]] = set()
        while True:
            while len(running) < jobs + 1:
                chunk = [Case(seed, number) for number in islice(numbers, _CHUNK)]
                running.add(pool.submit(run, chunk, server))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                tally.add(future.result())
            print(f"\r{tally.killed:,} kills, {len(tally.failures)} failures", end="", file=sys.stderr, flush=True)
            if tally.killed >= kills or len(tally.failures) >= _MOST_FAILURES:
                break
        for future in running:
            tally.add(future.result())
    return tally


def report(tally: Tally, seconds: float) -> str:
    """Say what was done and what came of it."""
    lines = [
        f"{tally.cases:,} cases, {tally.lives:,} lives, {tally.meetings:,} of them beside another, "
        f"{tally.commits:,} commits, {tally.killed:,} kills in {seconds:.0f} s"
    ]
    for title, position in (("store", 0), ("way", 1), ("moment", 3)):
        counted: Counter[str] = Counter()
        for kind, number in tally.kills.items():
            counted[kind[position]] += number
        lines.append(f"by {title}: " + ", ".join(f"{name} {number:,}" for name, number in counted.most_common()))
    lines.append("by operation:")
    operations: Counter[str] = Counter()
    for kind, number in tally.kills.items():
        operations[kind[2]] += number
    lines += [f"  {number:7,}  {name}" for name, number in sorted(operations.items())]
    lines += tally.failures
    lines.append(f"torn or lost: {len(tally.failures)} of {tally.killed:,} kills")
    if not tally.failures and tally.killed:
        lines.append(f"with 95 % confidence fewer than {3 / tally.killed:.2%} of such kills (rule of three)")
    return "\n".join(lines)


def _numbers(text: str) -> frozenset[int]:
    return frozenset(map(int, text.split(",")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--s3-every", type=int, default=S3_EVERY, help="one case of so many is on S3; 0: none")
    parser.add_argument("--case", type=int, help="this one case")
    parser.add_argument("--lives", type=_numbers, help="only these of its lives")
    parser.add_argument("--moves", type=int, default=Case(0, 0).moves, help="at most so many moves of a script")
    options = parser.parse_args()
    began = time.monotonic()
    with ExitStack() as stack:
        server = None
        if options.s3_every:
            os.environ["S3_UPLOAD_PART_MIN_SIZE"] = "1"  # moto's; S3 takes parts of 5 MiB and more
            started = stack.enter_context(serve_objects("crash"))
            server = Server(started.environment, started.bucket, options.s3_every, takes_small_parts=True)
        if options.case is not None:
            tally = run([Case(options.seed, options.case, options.lives, options.moves)], server)
        else:
            tally = campaign(options.kills, options.seed, options.jobs, server)
    print(report(tally, time.monotonic() - began))
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
