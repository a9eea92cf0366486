"""Whole lives whose store fails: what is durable at the end, what the exit code is, and what the log says."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import format_datetime
from pathlib import Path

import pytest
from tests.faults.conftest import Job
from tests.faults.proxy import Fault
from tests.faults.test_requests import BREAKS
from tests.lifecycle.conftest import Start
from tests.lifecycle.supervised import Supervised, wait_until
from tests.servers import Answer, ScriptedServer, Seen, error

TRAINS = """
import random, signal, sys, time
import holdfast
signal.signal(signal.SIGTERM, lambda *_: None)
steps, size = int(sys.argv[1]), int(sys.argv[2])
for step in range(1, steps + 1):
    if holdfast.interrupted():
        break
    with holdfast.save(holdfast.checkpoint_dir() / f"step-{step}.pt") as temporary:
        temporary.write_bytes(random.Random(step).randbytes(size))
    print("step", step, flush=True)
    while step == int(sys.argv[3]) and not holdfast.interrupted():
        time.sleep(0.02)
"""
"""Writes checkpoints: so many, of so many bytes; after the third number it waits for the interruption."""

WAITS = """
import signal, sys, time
import holdfast
signal.signal(signal.SIGTERM, lambda *_: None)
print("ready", flush=True)
while not holdfast.interrupted():
    time.sleep(0.02)
with holdfast.save(holdfast.checkpoint_dir() / "late.pt") as temporary:
    temporary.write_bytes(b"late" * int(sys.argv[1]))
"""
"""Writes one checkpoint, in the last moment."""

AGAIN = "checkpoints are being stored again"


def steps(count: int, size: int) -> dict[str, bytes]:
    return {f"step-{step}.pt": random.Random(step).randbytes(size) for step in range(1, count + 1)}


# A store that does not keep up


def test_throttling_that_outlasts_the_grace_costs_what_was_not_stored_and_nothing_else(start: Start, job: Job) -> None:
    run = start(sys.executable, "-c", TRAINS, "2", "100000", "1", environ=job.environ(HOLDFAST_GRACE_SECONDS="3"))
    run.wait_for_log("snapshot 000001-000001")
    (run.checkpoints / "late.pt").write_bytes(b"written beside the script")
    busy = job.proxy.always("PUT", BREAKS["throttled"])
    run.signal()
    assert run.exit_code() == 75
    assert busy.fired > 1
    assert "HTTP 503 (SlowDown: Please reduce your request rate.); trying again" in run.log
    assert "last flush" in run.log
    assert job.restored() == steps(1, 100_000)


def test_throttling_that_ends_within_the_grace_costs_nothing(start: Start, job: Job) -> None:
    run = start(sys.executable, "-c", WAITS, "1000", environ=job.environ())
    run.wait_for_output("ready")
    job.proxy.on("PUT", BREAKS["throttled"], times=4)
    run.signal()
    assert run.exit_code() == 143, run.log
    assert job.restored() == {"late.pt": b"late" * 1000}


def test_a_connection_that_stalls_in_the_flush_does_not_cost_the_grace(start: Start, job: Job) -> None:
    run = start(sys.executable, "-c", WAITS, "1000", environ=job.environ(HOLDFAST_GRACE_SECONDS="8"))
    run.wait_for_output("ready")
    job.proxy.on("PUT .*late.pt$", Fault(stalls_after=-1))
    run.signal()
    assert run.exit_code() == 143


def test_a_store_that_takes_a_kilobyte_a_second_does_not_hold_the_container(start: Start, job: Job) -> None:
    run = start(sys.executable, "-c", WAITS, "100000", environ=job.environ(HOLDFAST_GRACE_SECONDS="3"))
    run.wait_for_output("ready")
    job.proxy.always("PUT .*late.pt", Fault(bytes_per_second=1000))
    run.signal()
    assert run.exit_code() == 75
    assert job.restored() == {}


def test_sigterm_ends_a_restore_that_comes_in_at_a_kilobyte_a_second(start: Start, job: Job) -> None:
    job.write("model.pt", bytes(1 << 20))
    job.sync(job.syncer())
    slow = job.proxy.always("GET .*model.pt", Fault(bytes_per_second=1000))
    run = start("echo", "started", environ=job.environ())
    wait_until(lambda: slow.fired, "the restore is under way")
    run.signal()
    assert run.exit_code() == 143
    assert run.stdout == b""
    assert list(run.checkpoints.iterdir()) == [run.checkpoints / ".holdfast"]


# A store that goes away


def test_a_server_that_is_restarted_in_the_middle_is_used_again(start: Start, job: Job) -> None:
    run = start(sys.executable, "-c", TRAINS, "2", "1000", "1", environ=job.environ())
    run.wait_for_log("snapshot 000001-000001")
    job.proxy.refuse()
    (run.checkpoints / "meanwhile.pt").write_bytes(b"meanwhile")
    run.wait_for_log("does not answer (Connection refused)")
    job.proxy.listen()
    run.wait_for_log("snapshot 000001-000002")
    run.signal()
    assert run.exit_code() == 143, run.log
    assert job.restored() == {**steps(1, 1000), "meanwhile.pt": b"meanwhile"}


def test_a_server_that_comes_up_after_the_container_is_waited_for(start: Start, job: Job) -> None:
    job.proxy.refuse()
    run = start(sys.executable, "-c", TRAINS, "1", "1000", "0", environ=job.environ())
    run.wait_for_log("does not answer (Connection refused)")
    assert run.stdout == b""
    job.proxy.listen()
    assert run.exit_code() == 0, run.log
    assert job.restored() == steps(1, 1000)


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    """Return a file that stands for /etc/hosts in the processes started with `unshare`."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode != 0:
        pytest.skip("this user cannot make a mount namespace (needs root)")
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1 localhost localhost.faulty\n")
    return path


def test_a_name_that_stops_resolving_in_the_middle_is_said_and_used_again(start: Start, job: Job, hosts: Path) -> None:
    own_hosts = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(hosts))
    endpoint = job.proxy.endpoint.replace("127.0.0.1", "localhost.faulty")
    run = start(
        sys.executable, "-c", TRAINS, "2", "1000", "1",
        environ=job.environ(AWS_ENDPOINT_URL_S3=endpoint), under=own_hosts,
    )  # fmt: skip
    run.wait_for_log("snapshot 000001-000001")
    hosts.write_text("127.0.0.1 localhost\n")
    job.proxy.refuse()
    job.proxy.listen()  # what was connected would need no name
    (run.checkpoints / "meanwhile.pt").write_bytes(b"meanwhile")
    run.wait_for_log("has no address: check the endpoint, the region and this machine's DNS")
    hosts.write_text("127.0.0.1 localhost localhost.faulty\n")
    run.wait_for_log("snapshot 000001-000002")
    run.signal()
    assert run.exit_code() == 143, run.log
    assert job.restored() == {**steps(1, 1000), "meanwhile.pt": b"meanwhile"}


# Who may, and when


def test_a_policy_that_changes_in_the_middle_is_said_and_its_return_is_noticed(start: Start, job: Job) -> None:
    run = start(sys.executable, "-c", TRAINS, "2", "1000", "1", environ=job.environ())
    run.wait_for_log("snapshot 000001-000001")
    job.proxy.always("PUT", Fault(instead=error(403, "AccessDenied", "Access Denied")))
    (run.checkpoints / "meanwhile.pt").write_bytes(b"meanwhile")
    run.wait_for_log("checkpoints are NOT being stored")
    assert "need s3:PutObject on bucket" in run.log
    job.proxy.mend()
    run.wait_for_log(AGAIN)
    run.signal()
    assert run.exit_code() == 143, run.log
    assert job.restored() == {**steps(1, 1000), "meanwhile.pt": b"meanwhile"}


def expires(old: str) -> Fault:
    """Refuse the old key with the words of S3; to a HEAD it can say nothing but 400."""

    def answer(seen: Seen) -> Answer | None:
        if f"Credential={old}/" not in seen.headers.get("authorization", ""):
            return None
        return error(400, "ExpiredToken", "The provided token has expired.") if seen.method != "HEAD" else Answer(400)

    return Fault(instead=answer)


GIVES_KEYS = """
import json, pathlib
given = pathlib.Path(__file__).with_name("given")
given.write_text(given.read_text() + "x" if given.exists() else "x")
key = "FIRSTKEY" if len(given.read_text()) == 1 else "SECONDKEY"
print(json.dumps({"Version": 1, "AccessKeyId": key, "SecretAccessKey": "secret", "SessionToken": "token",
                  "Expiration": "2099-01-01T00:00:00Z"}))
"""


def test_credentials_that_expire_in_the_middle_of_an_upload_are_fetched_again(
    start: Start, job: Job, tmp_path: Path
) -> None:
    (tmp_path / "gives.py").write_text(GIVES_KEYS)
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = {sys.executable} {tmp_path}/gives.py\nregion = us-east-1\n")
    environ = job.environ(AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None, AWS_CONFIG_FILE=str(config))
    environ["AWS_SHARED_CREDENTIALS_FILE"] = str(tmp_path / "none")
    old = job.proxy.on("PUT .*partNumber=[345]&", expires("FIRSTKEY"), times=100)
    run = start(sys.executable, "-c", TRAINS, "1", str(70 << 20), "0", environ=environ)
    assert run.exit_code() == 0, run.log
    assert old.fired >= 1
    assert job.restored() == steps(1, 70 << 20)


@dataclass
class Roles:
    """An agent that gives out the role of a container, each time with another key."""

    address: str = ""
    asked: int = 0


@pytest.fixture
def roles() -> Iterator[Roles]:
    told = Roles()

    def role(_: Seen) -> Answer:
        told.asked += 1
        keys = {"AccessKeyId": f"KEY{told.asked}", "SecretAccessKey": "secret", "Token": "token"}
        return Answer(body=json.dumps({**keys, "Expiration": "2099-01-01T00:00:00Z"}).encode())

    with ScriptedServer(*[role] * 9) as agent:
        told.address = f"{agent.endpoint}/role"
        yield told


def test_a_role_of_a_container_is_asked_again_when_its_token_has_expired(start: Start, job: Job, roles: Roles) -> None:
    environ = job.environ(AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None)
    environ |= {"AWS_CONTAINER_CREDENTIALS_FULL_URI": roles.address, "HOME": "/nonexistent"}
    job.proxy.on("PUT .*step-1.pt$", expires("KEY1"), times=100)
    run = start(sys.executable, "-c", TRAINS, "1", "1000", "0", environ=environ)
    assert run.exit_code() == 0, run.log
    assert roles.asked == 2
    assert job.restored() == steps(1, 1000)


def test_keys_of_the_environment_that_expire_are_named_and_what_was_stored_stays(start: Start, job: Job) -> None:
    run = start(
        sys.executable, "-c", TRAINS, "2", "1000", "1", environ=job.environ(AWS_SESSION_TOKEN="a session token")
    )
    run.wait_for_log("snapshot 000001-000001")
    job.proxy.always("", expires("demo-access-key"))
    (run.checkpoints / "meanwhile.pt").write_bytes(b"meanwhile")
    run.wait_for_log("checkpoints are NOT being stored")
    run.signal()
    assert run.exit_code() == 75
    assert "the session token has expired: provide credentials that are valid" in run.log
    assert "a session token" not in run.log
    assert job.restored() == steps(1, 1000)


def test_a_machine_whose_clock_is_a_day_off_stores_and_restores(start: Start, job: Job) -> None:
    def refuse_the_hour(seen: Seen) -> Answer | None:
        now = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
        signed = dt.datetime.strptime(seen.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
        if abs(now - signed) < dt.timedelta(minutes=15):
            return None
        return error(403, "RequestTimeTooSkewed", Date=format_datetime(now, usegmt=True))

    skewed = job.proxy.always("", Fault(instead=refuse_the_hour))
    run = start(sys.executable, "-c", TRAINS, "1", "1000", "0", environ=job.environ())
    assert run.exit_code() == 0, run.log
    assert skewed.fired == 1  # and all that followed was signed for the server's hour
    assert job.restored() == steps(1, 1000)


# A machine that is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "small"
    directory.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", directory], capture_output=True)
    if made.returncode != 0:
        pytest.skip("this user cannot mount a file system (mount needs root)")
    yield directory
    subprocess.run(["umount", "--lazy", directory], check=True)


def test_a_disk_that_fills_up_during_the_restore_is_named_and_the_next_restore_is_whole(
    start: Start, job: Job, small_disk: Path
) -> None:
    # More than are fetched at a time: those have their room already.
    files = {f"shard-{number}.pt": bytes([number]) * 100_000 for number in range(30)}
    for path, content in files.items():
        job.write(path, content)
    job.sync(job.syncer())
    hog = small_disk / "hog"
    environ = job.environ(CHECKPOINT_LOCAL_PATH=str(small_disk / "checkpoints"))

    def fill() -> None:
        with contextlib.suppress(OSError):
            hog.write_bytes(bytes(4 << 20))

    job.proxy.on("HEAD|GET .*shard-", Fault(first=fill))
    run = start("echo", "started", environ=environ)
    assert run.exit_code() == 64, run.log
    assert "give it a larger volume" in run.log
    assert run.stdout == b""
    assert job.files("small/checkpoints") == {}
    hog.unlink()
    assert start("true", environ=environ).exit_code() == 0
    assert job.files("small/checkpoints") == files


def test_files_that_may_not_grow_so_large_are_named_and_nothing_is_put_in_place(start: Start, job: Job) -> None:
    job.write("model.pt", bytes(1 << 20))
    job.sync(job.syncer())
    runs: list[Supervised] = []

    def limit() -> None:
        resource.prlimit(runs[0].pid, resource.RLIMIT_FSIZE, (100_000, 100_000))

    job.proxy.on("GET .*/commits/", Fault(first=limit))
    runs.append(start("echo", "started", environ=job.environ()))
    assert runs[0].exit_code() == 64
    assert "takes no file of 1,048,576 bytes: raise the limit (ulimit -f)" in runs[0].log
    assert list(runs[0].checkpoints.iterdir()) == [runs[0].checkpoints / ".holdfast"]


def without_descriptors(start: Start, job: Job) -> Supervised:
    """Take a life that has stored something all its free file descriptors while it stores more, and give them back."""
    run = start(sys.executable, "-c", TRAINS, "2", "1000", "1", environ=job.environ())
    run.wait_for_log("snapshot 000001-000001")
    held = len(list(Path(f"/proc/{run.pid}/fd").iterdir()))
    before = resource.prlimit(run.pid, resource.RLIMIT_NOFILE)
    job.proxy.refuse()  # what is connected needs no new descriptor
    job.proxy.listen()
    resource.prlimit(run.pid, resource.RLIMIT_NOFILE, (held - 2, before[1]))
    (run.checkpoints / "meanwhile.pt").write_bytes(b"meanwhile")
    run.wait_for_log("Too many open files")
    resource.prlimit(run.pid, resource.RLIMIT_NOFILE, before)
    return run


def test_a_process_without_a_free_file_descriptor_says_so_and_loses_nothing(start: Start, job: Job) -> None:
    run = without_descriptors(start, job)
    run.signal()
    assert run.exit_code() == 143, run.log
    assert job.restored() == {**steps(1, 1000), "meanwhile.pt": b"meanwhile"}


def test_a_process_that_was_without_a_free_file_descriptor_goes_on_storing(start: Start, job: Job) -> None:
    assert "the watch of the checkpoint directory has failed" not in without_descriptors(start, job).log


def test_memory_stays_small_while_a_large_file_goes_up_through_stalls_and_resets(start: Start, job: Job) -> None:
    size = 256 << 20
    environ = job.environ(HOLDFAST_S3_TIMEOUT_SECONDS="4")
    job.proxy.on("PUT .*partNumber=[1-4]&", Fault(stalls_after=-1), times=4)
    job.proxy.on("PUT .*partNumber=", Fault(reset_up_after=8 << 20), times=6, chance=0.5)
    code = TRAINS.replace("random.Random(step).randbytes(size)", "bytes([step]) * size")
    run = start(sys.executable, "-c", code, "1", str(size), "1", environ=environ)
    run.wait_for_log("snapshot 000001-000001")
    peak = next(line for line in Path(f"/proc/{run.pid}/status").read_text().splitlines() if "VmHWM" in line)
    run.signal()
    assert run.exit_code() == 143, run.log
    assert int(peak.split()[1]) < 250 * 1024
    assert job.restored() == {"step-1.pt": b"\x01" * size}
