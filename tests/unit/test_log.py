"""Lines of the log: whole, without secrets, in the level and format of the environment."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from holdfast_entrypoint import log
from holdfast_entrypoint.config import platforms
from holdfast_entrypoint.config.platforms import Platform

LOG = logging.getLogger("holdfast.any")
Install = Callable[..., None]


@pytest.fixture
def install() -> Iterator[Install]:
    """Install the handler for one test, by default without times."""
    loggers = [logging.getLogger(name) for name in log.LOGGERS]
    before = [(logger.level, logger.propagate) for logger in loggers]
    others = [list(logger.handlers) for logger in loggers]

    def do(*, by_hand: bool = True, **environ: str) -> None:
        log.install(environ, by_hand=by_hand)

    yield do
    for logger, (level, propagate), handlers in zip(loggers, before, others, strict=True):
        logger.setLevel(level)
        logger.propagate = propagate
        for handler in set(logger.handlers) - set(handlers):
            logger.removeHandler(handler)


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "WANDB_API_KEY",
        "HF_TOKEN",
        "DB_PASSWORD",
        "MY_SECRET",
        "AWS_ACCESS_KEY_ID",
    ],
)
def test_the_value_of_a_secret_variable_is_replaced(name: str) -> None:
    redacted = log.Redactor({name: "hunter2-value"})("denied for hunter2-value at s3://bucket")
    assert "hunter2" not in redacted
    assert redacted == "denied for *** at s3://bucket"


def test_of_a_secret_inside_another_no_part_stays() -> None:
    redact = log.Redactor({"A_KEY": "abcdef", "B_TOKEN": "abcdefghij"})
    assert redact("x abcdefghij y") == "x *** y"


def test_credentials_in_a_uri_are_replaced_wherever_they_come_from() -> None:
    redact = log.Redactor({})
    assert redact("cannot reach http://user:pass@host:9000/x") == "cannot reach http://***@host:9000/x"
    assert redact("it is s3://AKIA:abc/defSECRET@bucket/p") == "it is s3://***@bucket/p"
    assert redact("s3://bucket/a@b and s3://bucket/c") == "s3://bucket/a@b and s3://bucket/c"


def test_a_password_in_the_uri_of_a_variable_is_replaced_wherever_it_appears() -> None:
    redact = log.Redactor({"HTTP_PROXY": "http://me:p4ssword@proxy:3128"})
    assert redact("no answer from me:p4ssword@proxy") == "no answer from me:***@proxy"


def test_values_that_are_no_secrets_stay() -> None:
    redact = log.Redactor({"SM_MODEL_DIR": "/opt/ml/model", "API_KEY": "test"})
    assert redact("test /opt/ml/model") == "test /opt/ml/model"


Capture = pytest.CaptureFixture[str]


def test_every_line_has_the_name_and_a_level_other_than_info(install: Install, capfd: Capture) -> None:
    install()
    LOG.info("one\ntwo %d", 3)
    LOG.warning("a\nb")
    logging.getLogger("holdfast_entrypoint.cli").error("c")
    LOG.debug("hidden")
    assert capfd.readouterr().err == (
        "holdfast: one\nholdfast: two 3\nholdfast: warning: a\nholdfast: warning: b\nholdfast: error: c\n"
    )


@pytest.mark.parametrize(
    ("level", "shown"), [("debug", "diwe"), ("info", "iwe"), ("", "iwe"), ("WARNING", "we"), ("error", "e")]
)
def test_the_level_decides_what_is_written(install: Install, level: str, shown: str, capfd: Capture) -> None:
    install(HOLDFAST_LOG_LEVEL=level)
    for write in (LOG.debug, LOG.info, LOG.warning, LOG.error):
        write(write.__name__[0])
    assert "".join(line[-1] for line in capfd.readouterr().err.splitlines()) == shown


def test_json_is_one_object_a_line(install: Install, capfd: Capture) -> None:
    install(HOLDFAST_LOG_FORMAT="json", A_TOKEN='se"cret\\value')
    before = datetime.now(UTC)
    LOG.warning('%s → "a"\nb \udc80', 'se"cret\\value')
    LOG.info("c")
    one, two = map(json.loads, capfd.readouterr().err.splitlines())
    assert (one["level"], one["logger"], one["message"]) == ("warning", "holdfast.any", '*** → "a"\nb \udc80')
    assert (two["level"], two["message"]) == ("info", "c")
    assert list(one) == ["time", "level", "logger", "message"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["time"])
    assert abs((datetime.fromisoformat(one["time"]) - before).total_seconds()) < 60


def test_a_secret_in_an_argument_or_a_traceback_is_replaced(install: Install, capfd: Capture) -> None:
    install(DB_PASSWORD="hunter2-value")
    LOG.error("denied: %s", OSError("hunter2-value at s3://me:you@bucket"))
    try:
        raise ValueError("hunter2-value")
    except ValueError:
        LOG.exception("failed")
    written = capfd.readouterr().err
    assert "hunter2" not in written
    assert "holdfast: error: denied: *** at s3://***@bucket\n" in written
    assert "holdfast: error: ValueError: ***\n" in written


def test_wrong_settings_leave_a_log_with_the_defaults(install: Install, capfd: Capture) -> None:
    install(HOLDFAST_LOG_LEVEL="loud", HOLDFAST_LOG_FORMAT="xml")
    LOG.debug("a")
    LOG.info("b")
    assert capfd.readouterr().err == "holdfast: b\n"


def test_arguments_that_do_not_fit_the_format_are_written_beside_it(install: Install, capfd: Capture) -> None:
    install()
    LOG.info("%d files", "no")
    assert capfd.readouterr().err == "holdfast: %d files ('no',)\n"


MANY = """
import logging, os, threading
from holdfast_entrypoint import log
writes, write = [], os.write
os.write = lambda fd, data: writes.append(data) or write(fd, data)
log.install({}, by_hand=True)
LOG = logging.getLogger("holdfast.any")
def work(number):
    for turn in range(200):
        LOG.info("%d %s\\nsecond line %d", number, str(number % 10) * 200, number)
threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(writes))
"""


def test_a_record_is_one_write_and_lines_of_threads_do_not_mix() -> None:
    done = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True, check=True)
    assert done.stdout == "3200\n"
    record = re.compile(r"holdfast: (\d+) (\d)\2{199}\nholdfast: second line \1\n")
    assert record.sub("", done.stderr) == ""
    assert len(record.findall(done.stderr)) == 3200


@pytest.mark.parametrize("how", ["pipe", "closed"])
def test_a_log_without_a_reader_is_lost_and_nothing_else(how: str) -> None:
    code = "import logging; from holdfast_entrypoint import log; log.install({}, by_hand=True); "
    code += "logging.getLogger('holdfast').error('a'); print('still here')"
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", code]
    if how == "closed":
        command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=write, text=True)
    os.close(write)
    assert (done.returncode, done.stdout) == (0, "still here\n")


# The time


@pytest.fixture
def on_laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 4711)
    monkeypatch.setattr(os, "isatty", lambda fd: False)


@pytest.mark.usefixtures("on_laptop")
def test_a_file_or_a_pipe_gets_the_time_of_each_line(install: Install, capfd: Capture) -> None:
    install(by_hand=False)
    LOG.warning("a\nb")
    assert re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) holdfast: warning: a\n\1 .*: b\n", capfd.readouterr().err)


@pytest.mark.usefixtures("on_laptop")
@pytest.mark.parametrize(
    ("variable", "platform"),
    [
        ("TRAINING_JOB_ARN", Platform.SAGEMAKER),
        ("AWS_BATCH_JOB_ID", Platform.BATCH),
        ("ECS_CONTAINER_METADATA_URI_V4", Platform.ECS),
        ("KUBERNETES_SERVICE_HOST", Platform.KUBERNETES),
    ],
)
def test_where_the_platform_adds_the_time_lines_have_none(variable: str, platform: Platform) -> None:
    assert platforms.detect({variable: "x"}) is platform
    assert not log.needs_time({variable: "x"})


@pytest.mark.usefixtures("on_laptop")
def test_the_journal_gets_no_time_and_a_file_below_a_service_does(capfd: Capture) -> None:
    status = os.fstat(2)
    assert not log.needs_time({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
    assert log.needs_time({"JOURNAL_STREAM": "8:1"})


def test_the_first_process_of_a_container_and_a_terminal_get_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda fd: False)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert not log.needs_time({})
    monkeypatch.setattr(os, "getpid", lambda: 4711)
    assert log.needs_time({})
    monkeypatch.setattr(os, "isatty", lambda fd: fd == 2)
    assert not log.needs_time({})


def test_a_bar_is_cleared_before_each_line_while_it_is_there(install: Install, capfd: Capture) -> None:
    install()
    cleared: list[str] = []
    with log.beside_bar(lambda: cleared.append(capfd.readouterr().err)):
        LOG.info("a")
    LOG.info("b")
    assert cleared == [""]
    assert capfd.readouterr().err == "holdfast: a\nholdfast: b\n"
