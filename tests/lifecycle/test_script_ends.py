"""Ways in which a script ends: what it finished is stored, and the exit code tells them apart."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.lifecycle.conftest import Start
from tests.lifecycle.supervised import wait_until

WRITES_ON_SIGTERM = """
import os, pathlib, signal, sys, time
directory = pathlib.Path(os.environ["SM_CHECKPOINT_DIR"])
code = int(sys.argv[1])

def handle(number, frame):
    (directory / "last.pt").write_bytes(b"the last words")
    os._exit(code)

signal.signal(signal.SIGTERM, handle)
(directory / "ready").write_text("")
while True:
    time.sleep(0.05)
"""


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


@pytest.mark.parametrize("code", [0, 1, 143])
def test_the_final_flush_runs_whatever_the_script_returns_on_sigterm(code: int, start: Start) -> None:
    run = start(*python(WRITES_ON_SIGTERM, str(code)))
    run.wait_for("ready")
    run.signal()
    assert run.exit_code() == 143
    assert run.stored()["last.pt"] == b"the last words"
    assert run.report["script_exit"] == code
    assert run.report["notice"] == "signal"
    assert run.report["seconds_notice_to_durable"] > 0


def test_a_script_that_ignores_sigterm_is_killed_in_time_and_the_flush_still_runs(start: Start) -> None:
    code = """
import os, pathlib, signal, time
directory = pathlib.Path(os.environ["SM_CHECKPOINT_DIR"])
signal.signal(signal.SIGTERM, signal.SIG_IGN)
(directory / "model.pt").write_bytes(b"finished")
(directory / "ready").write_text("")
time.sleep(1000)
"""
    run = start(*python(code), environ={"HOLDFAST_GRACE_SECONDS": "3"})
    run.wait_for("ready")
    run.signal()
    assert run.exit_code() == 143
    assert run.stored()["model.pt"] == b"finished"
    assert run.report["script_exit"] == 137
    assert "SIGKILL" in run.log


def test_a_second_sigterm_shortens_a_long_grace(start: Start) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready'); time.sleep(1000)"
    run = start(*python(code), environ={"HOLDFAST_GRACE_SECONDS": "100000"})
    run.wait_for_output("ready")
    run.signal()
    run.wait_for_log("SIGTERM: 99999 s")
    time.sleep(1.1)  # a second signal within a second counts as the same one
    run.signal()
    assert run.exit_code() == 143  # and not after a day
    assert "SIGTERM again" in run.log


def test_two_signals_at_once_are_one_and_the_script_keeps_its_grace(start: Start) -> None:
    code = """
import os, pathlib, signal, sys, time
def handle(number, frame):
    time.sleep(3)
    (pathlib.Path(os.environ["SM_CHECKPOINT_DIR"]) / "slow.pt").write_bytes(b"slow")
    sys.exit(0)
signal.signal(signal.SIGTERM, handle)
print("ready")
time.sleep(1000)
"""
    run = start(*python(code))
    run.wait_for_output("ready")
    run.signal()
    run.signal()
    assert run.exit_code() == 143
    assert run.stored()["slow.pt"] == b"slow"


@pytest.mark.parametrize("code", [0, 3, 77])
def test_a_script_that_ends_by_itself_gives_its_own_exit_code(code: int, start: Start) -> None:
    body = "import sys, holdfast; (holdfast.checkpoint_dir() / 'a').write_text('x'); sys.exit(int(sys.argv[1]))"
    run = start(*python(body, str(code)))
    assert run.exit_code() == code
    assert run.stored() == {"a": b"x"}
    failure = run.base / "output/failure"
    assert failure.exists() == (code != 0)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
def test_a_script_that_dies_of_a_signal_gives_128_and_the_signal(number: signal.Signals, start: Start) -> None:
    body = """
import os, sys
import holdfast
with holdfast.save(holdfast.checkpoint_dir() / "a") as temporary:
    temporary.write_text("x")
os.kill(os.getpid(), int(sys.argv[1]))
"""
    run = start(*python(body, str(int(number))))
    assert run.exit_code() == 128 + number
    assert run.stored() == {"a": b"x"}


HALF = """
import os, pathlib, signal, sys, time
import holdfast
directory = pathlib.Path(os.environ["SM_CHECKPOINT_DIR"])
(directory / "last.pt").write_bytes(b"whole")
(directory / "step-1").mkdir()
(directory / "step-1/a").write_bytes(b"1")
records = pathlib.Path(os.environ["CHECKPOINT_S3_URI"].removeprefix("file://"), ".holdfast/commits")
while not any("step-1" in path.read_text() and "last.pt" in path.read_text() for path in records.glob("*.json")):
    time.sleep(0.1)
time.sleep(1)
with holdfast.save(directory / "renamed.pt") as temporary:
    temporary.write_bytes(b"whole")
(directory / "step-1/a").write_bytes(b"2")  # and b never comes
with open(directory / "last.pt", "wb") as file:
    file.write(b"ha")
    file.flush()
    print("writing", flush=True)
    time.sleep(1000)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_file_that_was_open_for_writing_when_the_script_was_killed_is_not_committed(
    number: signal.Signals, start: Start
) -> None:
    run = start(*python(HALF))
    run.wait_for_output("writing")
    if number == signal.SIGTERM:
        run.signal()  # the script has no handler: it dies while it writes
        assert run.exit_code() == 143
    else:
        script = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()[0]
        os.kill(int(script), number)  # as the kernel does when memory runs out
        assert run.exit_code() == 137
    assert run.stored() == {"last.pt": b"whole", "step-1/a": b"1", "renamed.pt": b"whole"}, run.log
    assert "'last.pt' was being written when the script was killed" in run.log
    assert "'step-1' was being written when the script was killed" in run.log


def test_files_of_a_handler_under_a_shell_that_dies_first_are_committed(start: Start) -> None:
    code = WRITES_ON_SIGTERM.replace(
        "os._exit(code)", "time.sleep(0.5); (directory / 'd').mkdir(); (directory / 'd/x').touch(); os._exit(code)"
    )
    run = start(
        "sh",
        "-c",
        'python -c "$0" 0; true',
        code,
        environ={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    run.wait_for("ready")
    run.signal()
    assert run.exit_code() == 143
    assert run.stored().keys() == {"ready", "last.pt", "d/x"}, run.log


def test_a_helper_that_dies_of_the_signal_does_not_make_files_of_the_script_torn(start: Start) -> None:
    code = """
import os, pathlib, signal, subprocess, sys, time
directory = pathlib.Path(os.environ["SM_CHECKPOINT_DIR"])
subprocess.Popen(["sleep", "1000"])  # dies of SIGTERM, and is reaped after the script
def handle(number, frame):
    with open(directory / "final.pt", "wb") as file:
        file.write(b"whole")
    (directory / "step-9").mkdir()
    (directory / "step-9/a").write_bytes(b"whole")
    sys.exit(0)
signal.signal(signal.SIGTERM, handle)
print("ready", flush=True)
time.sleep(1000)
"""
    run = start(*python(code))
    run.wait_for_output("ready")
    run.signal()
    assert run.exit_code() == 143
    assert run.stored() == {"final.pt": b"whole", "step-9/a": b"whole"}, run.log


def test_a_helper_that_ends_well_does_not_clear_a_script_that_was_killed_while_it_wrote(start: Start) -> None:
    helper = "import signal, sys, time; signal.signal(15, lambda *_: (time.sleep(0.3), sys.exit(0))); time.sleep(1000)"
    run = start(*python(f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {helper!r}])" + HALF))
    run.wait_for_output("writing")
    run.signal()
    assert run.exit_code() == 143
    assert run.stored()["last.pt"] == b"whole", run.log


def test_of_a_script_that_is_killed_in_a_shell_no_torn_file_is_committed(start: Start) -> None:
    """Out of memory: the kernel kills only the Python process, and the shell returns 137."""
    environ = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    run = start("sh", "-c", 'python -c "$0"; exit $?', HALF, environ=environ)
    run.wait_for_output("writing")
    shell = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()[0]
    script = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()[0]
    os.kill(int(script), signal.SIGKILL)
    assert run.exit_code() == 137
    assert run.stored()["last.pt"] == b"whole", run.log


def test_sigterm_just_before_the_script_would_have_ended_loses_nothing(start: Start) -> None:
    body = """
import os, pathlib, signal, sys, time
directory = pathlib.Path(os.environ["SM_CHECKPOINT_DIR"])
(directory / "final.pt").write_bytes(b"whole")
os.kill(os.getppid(), signal.SIGTERM)
time.sleep(float(sys.argv[1]))
"""
    for milliseconds in (0, 1, 2, 5, 10):
        run = start(*python(body, str(milliseconds / 1000)), machine=f"machine-{milliseconds}")
        assert run.exit_code() in (0, 143)
        assert run.stored()["final.pt"] == b"whole"


def test_variables_of_an_outer_holdfast_are_not_passed_on(start: Start) -> None:
    run = start("env", environ={"HOLDFAST_RESUME": "/stale", "HOLDFAST_ATTEMPT": "77"})
    assert run.exit_code() == 0
    assert b"HOLDFAST_RESUME" not in run.stdout
    assert b"HOLDFAST_ATTEMPT=1\n" in run.stdout


def test_a_report_that_cannot_be_written_changes_no_exit_code(start: Start) -> None:
    run = start("sh", "-c", "exit 3", environ={"HOLDFAST_REPORT_FILE": "/no/such/directory/report.json"})
    assert run.exit_code() == 3
    assert "report cannot be written" in run.log


def test_a_missing_command_has_the_exit_code_of_a_shell(start: Start, tmp_path: Path) -> None:
    assert start("no-such-command").exit_code() == 127
    plain = tmp_path / "plain"
    plain.write_text("text")
    run = start(plain, machine="two")
    assert run.exit_code() == 126
    assert "cannot be executed" in run.log


def test_a_grandchild_that_keeps_stdout_open_does_not_delay_the_end(tmp_path: Path) -> None:
    """`holdfast run -- ... | cat`, with a grandchild that ignores SIGTERM."""
    code = """
import subprocess, sys
deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(1000)"
subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True)
"""
    (tmp_path / "store").mkdir()
    line = [sys.executable, "-I", "-m", "holdfast_entrypoint", "run", "--", *python(code)]
    environ = {
        **os.environ,
        "SAGEMAKER_BASE_DIR": str(tmp_path / "ml"),
        "CHECKPOINT_S3_URI": f"file://{tmp_path}/store",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    done = subprocess.run(line, env=environ, capture_output=True, timeout=60)
    assert done.returncode == 0


def test_zombies_are_reaped(start: Start) -> None:
    code = """
import os, time
for _ in range(20):
    if os.fork() == 0:
        if os.fork() > 0:
            os._exit(0)
        os._exit(0)  # an orphan that ends: only its new parent can reap it
    os.wait()
print("forked")
time.sleep(1000)
"""
    run = start(*python(code))
    run.wait_for_output("forked")

    def zombies() -> list[str]:
        listing = subprocess.run(["ps", "-o", "stat=", "--ppid", str(run.pid)], capture_output=True, text=True).stdout
        return [line for line in listing.splitlines() if line.startswith("Z")]

    wait_until(lambda: not zombies(), "no zombie is left")
    run.signal()
    assert run.exit_code() == 143


def test_output_is_passed_through_unchanged_and_in_order(start: Start) -> None:
    code = """
import os
for number in range(2000):
    os.write(1, b"%06d\\x00\\xff\\r\\n" % number)
os.write(1, bytes(range(256)) * 1000)
"""
    run = start(*python(code))
    assert run.exit_code() == 0
    assert run.stdout == b"".join(b"%06d\x00\xff\r\n" % n for n in range(2000)) + bytes(range(256)) * 1000


def test_sigterm_before_the_script_exists_ends_without_starting_it(start: Start) -> None:
    """The metadata of a store that hangs keeps the restore waiting."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        run = start(
            *python("print('started')"),
            environ={
                "CHECKPOINT_S3_URI": "s3://bucket/prefix",
                "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": "id",
                "AWS_SECRET_ACCESS_KEY": "secret",
            },
        )
        silent.settimeout(60)
        connection, _ = silent.accept()  # the restore has begun, and waits for an answer
        run.signal()
        assert run.exit_code() == 143
        connection.close()
    assert run.stdout == b""
    assert "before the script was started" in run.log
