"""Two containers of one job: each stores its own shards, both restore the same complete checkpoint."""

import sys

from tests.lifecycle.conftest import Start
from tests.lifecycle.supervised import Supervised

TRAINS = """
import os, pathlib, signal, sys, time
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
directory = pathlib.Path(os.environ["SM_CHECKPOINT_DIR"])
who, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for step in range(first, last + 1):
    folder = directory / f"step-{step}.tmp"
    folder.mkdir()
    (folder / f"shard-{who}").write_text(f"{who} {step}")
    folder.rename(directory / f"step-{step}")
    print("step", step, flush=True)
while not stop:
    time.sleep(0.05)
"""


def begin(start: Start, run: str, who: str, first: int, last: int) -> Supervised:
    environ = {"HOLDFAST_HOSTS": "a,b", "HOLDFAST_HOST": who, "HOLDFAST_RUN": run}
    return start(sys.executable, "-c", TRAINS, who, str(first), str(last), environ=environ, machine=f"{run}-{who}")


def shards(host: Supervised) -> list[str]:
    return sorted(
        path.relative_to(host.checkpoints).as_posix()
        for path in host.checkpoints.rglob("shard-*")
        if ".holdfast" not in path.parts
    )


def test_both_hosts_resume_from_the_checkpoint_that_both_have_finished(start: Start) -> None:
    hosts = [begin(start, "first", who, 1, 2) for who in "ab"]
    for host in hosts:
        host.wait_for_log("snapshot 000001-")
        host.signal()
        assert host.exit_code() == 143, host.log
    both = ["step-1/shard-a", "step-1/shard-b", "step-2/shard-a", "step-2/shard-b"]
    one, two = (begin(start, "second", who, 3, 3 if who == "a" else 2) for who in "ab")
    for host in (one, two):
        host.wait_for_log("attempt 2 of")
    two.vanish()  # before it has written its part of step 3
    one.wait_for_log("snapshot 000002-")
    one.signal()
    assert one.exit_code() == 143, one.log
    for host in [begin(start, "third", who, 4, 3) for who in "ab"]:
        host.wait_for_log("4 files")
        assert shards(host) == both
        host.signal()
        assert host.exit_code() == 143, host.log


def test_a_host_that_is_not_in_the_list_is_a_configuration_error(start: Start) -> None:
    host = start("true", environ={"HOLDFAST_HOSTS": "a,b", "HOLDFAST_HOST": "c"})
    assert host.exit_code() == 64
    assert "'c', which is none of the hosts a, b" in host.log
