"""A job on an S3 server: interrupted, resumed, and refused."""

import http.server
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.demo.object_server import ObjectServer, serve_objects
from tests.lifecycle.conftest import Start

WRITES = """
import sys, time
import holdfast
directory = holdfast.checkpoint_dir()
step = 0
while step < int(sys.argv[1]) and not holdfast.interrupted():
    step += 1
    with holdfast.save(directory / f"step {step} \u00fc.pt") as temporary:
        temporary.write_bytes(bytes([step]) * 100_000)
    (directory / "last.txt").write_text(str(step))
    print("step", step, flush=True)
    time.sleep(0.5)
"""


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


def environ(s3_server: ObjectServer, prefix: str) -> dict[str, str | None]:
    return {**s3_server.environment, "CHECKPOINT_S3_URI": f"s3://{s3_server.bucket}/{prefix}"}


def keys(s3_server: ObjectServer, prefix: str) -> dict[str, str]:
    pages = s3_server.client.get_paginator("list_objects_v2").paginate(Bucket=s3_server.bucket, Prefix=f"{prefix}/")
    return {item["Key"].removeprefix(f"{prefix}/"): item["ETag"] for page in pages for item in page.get("Contents", [])}


def test_an_interrupted_job_resumes_on_another_machine(start: Start, s3_server: ObjectServer, prefix: str) -> None:
    first = start(sys.executable, "-c", WRITES, "100000", environ=environ(s3_server, prefix))
    first.wait_for_log("snapshot 000001-000002")
    first.signal()
    assert first.exit_code() == 143, first.log
    steps = int((first.checkpoints / "last.txt").read_text())
    second = start("true", environ=environ(s3_server, prefix), machine="two")
    assert second.exit_code() == 0, second.log
    for path in first.checkpoints.iterdir():
        assert (second.checkpoints / path.name).read_bytes() == path.read_bytes()
        assert (second.checkpoints / path.name).stat().st_mtime_ns == path.stat().st_mtime_ns
    assert second.report["files_restored"] == steps + 1
    # At the keys of SageMaker, with the metadata of holdfast.
    assert f"step {steps} ü.pt" in keys(s3_server, prefix)
    head = s3_server.client.head_object(Bucket=s3_server.bucket, Key=f"{prefix}/step 1 ü.pt")
    assert head["Metadata"] == {"holdfast-attempt": "1"}


def test_every_kept_snapshot_stays_whole_while_plain_keys_follow_the_newest(
    start: Start, s3_server: ObjectServer, prefix: str
) -> None:
    seen: dict[str, str] = {}
    settings = {**environ(s3_server, prefix), "CHECKPOINT_RETENTION": "all"}
    for attempt, steps in enumerate(("2", "3", "4")):
        life = start(sys.executable, "-c", WRITES, steps, environ=settings, machine=str(attempt))
        assert life.exit_code() == 0, life.log
        now = keys(s3_server, prefix)
        own = {key: etag for key, etag in seen.items() if key.startswith(".holdfast/")}
        assert own.items() <= now.items(), "no object of holdfast is overwritten or deleted"
        body = s3_server.client.get_object(Bucket=s3_server.bucket, Key=f"{prefix}/last.txt")["Body"].read()
        assert body == steps.encode(), "the plain key is what the script wrote last"
        seen = now
    uri = f"s3://{s3_server.bucket}/{prefix}"
    checked = start(uri, "--all", verb=("verify",), environ=environ(s3_server, prefix), machine="verify")
    assert checked.exit_code() == 0, checked.stdout


def test_objects_of_other_writers_are_adopted_or_refused_by_name(
    start: Start, s3_server: ObjectServer, prefix: str
) -> None:
    for key in (
        "model.pt",
        "a/b.pt",
        "folder/",
        "../../escape.pt",
        "/abs.pt",
        "x//y.pt",
        "tab\t.pt",
        "m.sagemaker-uploaded",
    ):
        s3_server.client.put_object(
            Bucket=s3_server.bucket, Key=f"{prefix}/{key}", Body=b"" if key == "folder/" else b"theirs"
        )
    run = start("sh", "-c", "cd $SM_CHECKPOINT_DIR; find . -type f | sort", environ=environ(s3_server, prefix))
    assert run.exit_code() == 0, run.log
    assert run.stdout.decode() == "./a/b.pt\n./model.pt\n./tab\t.pt\n"
    for key in ("../../escape.pt", "/abs.pt", "x//y.pt"):
        assert f"object {key!r} is not restored" in run.log
    assert not list(Path("/").glob("abs.pt"))
    assert not list(run.machine.rglob("escape.pt"))
    assert "model.pt" in keys(s3_server, prefix)


def test_a_missing_bucket_is_an_error_and_no_fresh_start(start: Start, s3_server: ObjectServer) -> None:
    run = start("echo", "started", environ={**s3_server.environment, "CHECKPOINT_S3_URI": "s3://no-such-bucket/x"})
    assert run.exit_code() == 69
    assert "'no-such-bucket'" in run.log
    assert run.stdout == b""


class _Denies(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        pass


@pytest.fixture
def denying() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Denies)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_denied_bucket_is_an_error_that_names_the_permission(
    start: Start, s3_server: ObjectServer, denying: str
) -> None:
    settings = {**environ(s3_server, "x"), "AWS_ENDPOINT_URL_S3": denying}
    run = start("echo", "started", environ=settings)
    assert run.exit_code() == 69
    assert "s3:ListBucket" in run.log
    assert run.stdout == b""


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "S3_ENDPOINT_URL"])
def test_both_variables_of_the_endpoint_are_used(
    variable: str, start: Start, s3_server: ObjectServer, prefix: str
) -> None:
    settings = {**environ(s3_server, prefix), "AWS_ENDPOINT_URL_S3": None, variable: s3_server.endpoint}
    assert start("true", environ=settings).exit_code() == 0
    assert list(keys(s3_server, prefix)) == [".holdfast/attempts/000001.json"]


def test_the_record_names_the_key_of_each_file(start: Start, s3_server: ObjectServer, prefix: str) -> None:
    assert start(sys.executable, "-c", WRITES, "1", environ=environ(s3_server, prefix)).exit_code() == 0
    name = sorted(key for key in keys(s3_server, prefix) if key.startswith(".holdfast/commits/"))[-1]
    record = json.loads(s3_server.client.get_object(Bucket=s3_server.bucket, Key=f"{prefix}/{name}")["Body"].read())
    assert (record["format"], record["attempt"]) == (1, 1)
    for entry in record["files"]:
        head = s3_server.client.head_object(Bucket=s3_server.bucket, Key=f"{prefix}/{entry['key']}")
        assert (head["ETag"], head["ContentLength"]) == (entry["etag"], entry["size"])


def test_a_store_that_hangs_in_the_flush_does_not_hold_the_container_past_its_deadline(start: Start) -> None:
    with serve_objects() as server:
        code = "import time, holdfast; print('ready', flush=True)\nwhile not holdfast.interrupted(): time.sleep(0.02)\n"
        code += "(holdfast.checkpoint_dir() / 'late.pt').write_bytes(b'1' * 1000)"
        settings = {**environ(server, "x"), "HOLDFAST_GRACE_SECONDS": "4", "HOLDFAST_STOP_SIGNAL": "WINCH"}
        run = start(sys.executable, "-c", code, environ=settings)
        run.wait_for_output("ready")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        try:
            run.signal()
            assert run.process.wait(30) == 75  # before the read timeout of 60 s
        finally:
            os.kill(server.pid, signal.SIGCONT)
