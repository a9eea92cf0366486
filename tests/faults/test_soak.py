"""Random faults over random work, for two lives each.

A seed tells the work, the faults and their chances, and HOLDFAST_SOAK_SEED=17 plays 17 again; which of several threads
meets a fault is the machine's. HOLDFAST_SOAK_LIVES says how many pairs of lives there are, and their seeds count up.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from examples.demo.object_server import ObjectServer
from tests.faults.conftest import Job
from tests.faults.proxy import Fault, FaultyProxy
from tests.faults.test_requests import BREAKS, HTML, PAGE, damaged, first_half, flipped
from tests.lifecycle.conftest import Start
from tests.lifecycle.supervised import Supervised
from tests.servers import Answer

FIRST_SEED = int(os.environ.get("HOLDFAST_SOAK_SEED", "4"))
LIVES = int(os.environ.get("HOLDFAST_SOAK_LIVES", "2"))

WORKS = """
import hashlib, json, pathlib, random, signal, sys, time
import holdfast
signal.signal(signal.SIGTERM, lambda *_: None)
directory = holdfast.checkpoint_dir()
seed, steps, large = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
seen = {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*") if path.is_file() and ".holdfast" not in path.parts}
print(json.dumps(seen), flush=True)
last = directory / "last.json"
begin = json.loads(last.read_text())["step"] if last.exists() else 0
for step in range(begin + 1, begin + steps + 1):
    if holdfast.interrupted():
        break
    chance = random.Random(f"{seed} {step}")
    folder = directory / f"epoch-{step}"
    folder.mkdir(exist_ok=True)
    for number in range(chance.randrange(1, 6)):
        (folder / f"shard-{number}.dat").write_bytes(chance.randbytes(chance.choice([0, 100, 10_000, 300_000])))
    if step == large:
        (folder / "large.dat").write_bytes(chance.randbytes(70_000_000))
    (folder / "index.json").write_text(json.dumps(sorted(path.name for path in folder.iterdir())))
    with holdfast.save(last) as temporary:
        temporary.write_text(json.dumps({"step": step}))
    time.sleep(chance.choice([0.0, 0.1, 1.0]))
"""
OBJECT = r"^GET /[^?]+/[^?]+$"
KINDS: dict[str, tuple[str, Fault]] = {
    **{name: ("", fault) for name, fault in BREAKS.items() if not name.endswith("404")},
    "page of a load balancer, 404": ("^(GET|PUT|POST)", BREAKS["page of a load balancer, 404"]),
    "reset in the middle of a body up": ("^PUT", Fault(reset_up_after=1000)),
    "damaged on the way up": ("^PUT", Fault(up=flipped)),
    "shorter than announced": ("^GET", Fault(cut_down_after=50)),
    "reset in the middle of a body down": ("^GET", Fault(reset_down_after=50)),
    "silence in the middle of a body down": ("^GET", Fault(stalls_after=50)),
    "half of it, announced as all": (OBJECT, Fault(down=first_half)),
    "slow": ("", Fault(bytes_per_second=1_000_000)),
    "completion that fails with 200": (
        "^POST .*uploadId=",
        Fault(down=lambda answer: Answer(200, HTML, PAGE)),
    ),
}


def break_at_random(proxy: FaultyProxy, chance: random.Random) -> list[str]:
    """Give the proxy rules; return their names."""
    names = chance.sample(sorted(KINDS), chance.randrange(3, 7))
    for name in names:
        pattern, fault = KINDS[name]
        proxy.on(pattern, fault, times=30, chance=chance.choice([0.02, 0.05, 0.1]))
    if chance.random() < 0.5:  # twice for one object would be damage at rest, for all that a restore can tell
        proxy.on(OBJECT, Fault(down=damaged), skip=chance.randrange(5))
        names.append("one flipped bit")
    if chance.random() < 0.3:
        proxy.on("", BREAKS["throttled"], times=chance.randrange(2, 12), skip=chance.randrange(30))
        names.append("burst of throttling")
    return names


@contextmanager
def restarting(proxy: FaultyProxy, chance: random.Random) -> Iterator[list[str]]:
    """Let the server be away for a second, in some lives, some seconds after their beginning."""
    if chance.random() < 0.7:
        yield []
        return
    away, over = chance.uniform(0.2, 4.0), threading.Event()

    def restart() -> None:
        if over.wait(away):
            return
        proxy.refuse()
        over.wait(1.0)
        proxy.listen()

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        yield [f"restart after {away:.1f} s"]
    finally:
        over.set()
        thread.join()


def live(start: Start, job: Job, seed: str, machine: str) -> tuple[Supervised, list[str]]:
    """Live one life under random faults, to its end; return it, and what was done to it."""
    chance = random.Random(seed)
    names = break_at_random(job.proxy, chance)
    large = chance.choice([0, 0, 2])
    with restarting(job.proxy, chance) as restarts:
        environ = job.environ(HOLDFAST_S3_TIMEOUT_SECONDS="1")
        steps = chance.randrange(2, 6)
        run = start(sys.executable, "-c", WORKS, seed, str(steps), str(large), environ=environ, machine=machine)
        if chance.random() < 0.5:
            try:
                run.process.wait(chance.uniform(0.5, 6.0))
            except subprocess.TimeoutExpired:
                run.signal()
        run.exit_code()
    job.proxy.mend()
    return run, names + restarts


def digests(files: dict[str, bytes]) -> dict[str, str]:
    return {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}


def refuse_torn(files: dict[str, bytes]) -> None:
    """A directory is whole or not there."""
    folders = {path.partition("/")[0] for path in files if "/" in path}
    for folder in folders:
        names = {path.partition("/")[2] for path in files if path.startswith(f"{folder}/")}
        assert names == {"index.json", *json.loads(files[f"{folder}/index.json"])}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + LIVES))
def test_soak(seed: int, start: Start, s3_server: ObjectServer, tmp_path: Path) -> None:
    with FaultyProxy(s3_server.endpoint, seed=seed) as proxy, ThreadPoolExecutor(8) as workers:
        job = Job(tmp_path, proxy, s3_server, f"soak/{os.getpid()}/{seed}", workers)
        stored: dict[str, bytes] = {}
        for machine in ("one", "two"):
            run, names = live(start, job, f"{seed} {machine}", machine)
            fired = sum(rule.fired for rule in proxy.rules)
            print(f"seed {seed}, {machine}: exit {run.process.returncode}, {len(proxy.seen)} requests, ", end="")
            print(f"{fired} broken: {', '.join(names)}")
            after = job.restored()
            check(run, before=stored, there=files_of_machine(job, machine), after=after)
            stored = after
            proxy.rules.clear()
            proxy.seen.clear()


def files_of_machine(job: Job, machine: str) -> dict[str, bytes]:
    return job.files(f"{machine}/ml/checkpoints")


def check(run: Supervised, *, before: dict[str, bytes], there: dict[str, bytes], after: dict[str, bytes]) -> None:
    """Hold a life against what the store had before and has now, and against what the machine had at the end."""
    code = run.process.returncode
    assert code in (0, 143, 74, 75, 69), run.log
    assert "passed over" not in run.log
    if not run.stdout:  # the script was not started
        assert code in (143, 69), run.log
        assert there in ({}, before)
        assert after == before
        return
    assert json.loads(run.stdout) == digests(before), run.log
    refuse_torn(after)
    if "was being written when the script was killed" in run.log:
        return  # SIGTERM met the interpreter at its end, where it has no handler any more
    if code in (0, 143):
        assert after == there, run.log
        return
    # What the log calls stored is stored; a commit whose answer was lost may have more.
    committed = re.findall(r"snapshot \d{6}-\d{6}: (\d+) files", run.log)
    assert len(after) >= int(committed[-1] if committed else len(before)), run.log
    assert Counter(
        re.findall("NOT being stored|is not stored|not stored, no time|last flush|tried again|trying again", run.log)
    ), run.log
