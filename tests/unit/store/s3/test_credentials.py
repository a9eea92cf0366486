"""The credentials and the region with which a request is signed."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from email.utils import format_datetime
from pathlib import Path

import pytest
from tests.s3_requests import BYTES, DONE, open_at
from tests.servers import SECRET, Answer, ScriptedServer, Seen, error, listing

from holdfast.errors import AccessDeniedError, PermanentStoreError


def run_with(environ: dict[str, str], home: Path) -> subprocess.CompletedProcess[str]:
    """Open a store and list it, in a process with exactly this environment."""
    code = (
        "import os, sys\n"
        "from holdfast.errors import HoldfastError\n"
        "from holdfast.store.location import Location\n"
        "from holdfast.store.s3.store import S3Store\n"
        "from holdfast.store.s3.settings import from_environ\n"
        "try:\n"
        "    print(len(list(S3Store(Location('s3', 'data', 'p'), from_environ(os.environ)).list(''))))\n"
        "except HoldfastError as error:\n"
        "    sys.exit(f'{type(error).__name__}: {error}')\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"HOME": str(home), "AWS_EC2_METADATA_DISABLED": "true", **environ},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_the_role_of_a_container_signs(tmp_path: Path) -> None:
    ends = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
    role = f'{{"AccessKeyId":"ROLE","SecretAccessKey":"{SECRET}","Token":"session","Expiration":"{ends}"}}'
    with ScriptedServer(Answer(body=role.encode())) as agent, ScriptedServer(listing("p/a", "p/b")) as server:
        environ = {
            "AWS_ENDPOINT_URL_S3": server.endpoint,
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{agent.endpoint}/role",
        }
        done = run_with(environ, tmp_path)
    assert (done.stdout, done.stderr) == ("2\n", "")
    (seen,) = server.seen
    assert "Credential=ROLE/" in seen.headers["authorization"]
    assert "/us-east-1/s3/" in seen.headers["authorization"]
    assert seen.headers["x-amz-security-token"] == "session"
    assert seen.signature_fits(SECRET)


def test_a_profile_signs_and_sets_the_region(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text(
        f"[work]\naws_access_key_id = PROFILE\naws_secret_access_key = {SECRET}\n"
    )
    (tmp_path / ".aws/config").write_text("[profile work]\nregion = eu-west-3\n")
    with ScriptedServer(listing()) as server:
        done = run_with({"AWS_ENDPOINT_URL_S3": server.endpoint, "AWS_PROFILE": "work"}, tmp_path)
    assert (done.stdout, done.stderr) == ("0\n", "")
    authorization = server.seen[0].headers["authorization"]
    assert "Credential=PROFILE/" in authorization
    assert "/eu-west-3/s3/" in authorization


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "AccessDeniedError: no AWS credentials were found: give the machine, task or pod a role"),
        ({"AWS_PROFILE": "nowhere"}, "check AWS_PROFILE"),
        (
            {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/role"},
            "TransientStoreError: the AWS credentials could not",
        ),
    ],
)
def test_the_error_of_missing_credentials_says_so(environ: dict[str, str], said: str, tmp_path: Path) -> None:
    with ScriptedServer(listing()) as server:
        done = run_with({"AWS_ENDPOINT_URL_S3": server.endpoint, **environ}, tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert server.seen == []


def test_credentials_that_have_expired_are_looked_up_once_more() -> None:
    with ScriptedServer(error(400, "ExpiredToken"), DONE) as server:
        open_at(server).put("k", BYTES)
    assert [seen.body for seen in server.seen] == [b"12345", b"12345"]
    with (
        ScriptedServer(error(400, "ExpiredToken"), error(400, "ExpiredToken")) as server,
        pytest.raises(AccessDeniedError, match="session token has expired"),
    ):
        open_at(server).put("k", BYTES)


@pytest.mark.parametrize(
    "answer",
    [
        error(301, "PermanentRedirect", x_amz_bucket_region="eu-west-1"),
        Answer(400, body=b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>"),
        Answer(307, {"x-amz-bucket-region": "eu-west-1"}),
    ],
)
def test_a_bucket_in_another_region_is_found_once_and_remembered(answer: Answer) -> None:
    with ScriptedServer(answer, DONE, DONE) as server:
        store = open_at(server)
        store.put("k", BYTES)
        store.delete("k")
    regions = [seen.headers["authorization"].split("/")[2] for seen in server.seen]
    assert regions == ["us-east-1", "eu-west-1", "eu-west-1"]
    assert all(seen.signature_fits(SECRET) for seen in server.seen)


def test_only_one_redirect_is_followed() -> None:
    sent_on = [error(301, "PermanentRedirect", x_amz_bucket_region=region) for region in ("eu-west-1", "eu-west-2")]
    with ScriptedServer(*sent_on) as server, pytest.raises(PermanentStoreError, match="set AWS_REGION"):
        open_at(server).check()


def server_at(ahead: dt.timedelta) -> Callable[[Seen], Answer]:
    """Answer as S3 with a clock that is that far ahead: 15 minutes are allowed."""

    def answer(seen: Seen) -> Answer:
        now = dt.datetime.now(dt.UTC) + ahead
        signed = dt.datetime.strptime(seen.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
        said = DONE if abs(now - signed) < dt.timedelta(minutes=15) else error(403, "RequestTimeTooSkewed")
        return replace(said, headers={**said.headers, "Date": format_datetime(now, usegmt=True)})

    return answer


@pytest.mark.parametrize("hours", [-30, 1, 26])
def test_a_wrong_clock_of_this_machine_is_corrected_by_the_server_s(hours: int) -> None:
    with ScriptedServer(*[server_at(dt.timedelta(hours=hours))] * 5) as server:
        store = open_at(server)
        store.head("k")  # refused without a code: an answer to HEAD has no body
        store.put("k", BYTES)
    assert server.asked == ["HEAD /data/p/k", "HEAD /data/p/k", "PUT /data/p/k"]
    assert all(seen.signature_fits(SECRET) for seen in server.seen)


def test_without_the_time_of_the_server_the_advice_is_to_set_the_clock() -> None:
    with ScriptedServer(error(403, "RequestTimeTooSkewed")) as server, pytest.raises(AccessDeniedError, match="NTP"):
        open_at(server).put("k", BYTES)
    strange = replace(error(403, "RequestTimeTooSkewed"), headers={"Date": "yesterday"})
    with ScriptedServer(strange) as server, pytest.raises(AccessDeniedError, match="NTP"):
        open_at(server).put("k", BYTES)


def test_the_clock_is_corrected_only_once() -> None:
    skewed = error(403, "RequestTimeTooSkewed", Date="Fri, 02 Jan 2026 03:04:05 GMT")
    with ScriptedServer(skewed, skewed) as server, pytest.raises(AccessDeniedError, match="clock is wrong"):
        open_at(server).put("k", BYTES)


def test_a_refused_head_at_the_right_time_is_a_denial() -> None:
    date = {"Date": format_datetime(dt.datetime.now(dt.UTC), usegmt=True)}
    with ScriptedServer(Answer(403, date)) as server, pytest.raises(AccessDeniedError, match="s3:GetObject"):
        open_at(server).head("k")
