"""Signatures equal those of botocore."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from botocore.auth import SIGV4_TIMESTAMP, S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from holdfast.store.s3.settings import S3Settings, StaticKeys
from holdfast.store.s3.signer import Signer

MOMENT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
HEADERS = {
    "Content-Length": "5",
    "x-amz-checksum-crc64nvme": "AAAAAAAAAAA=",
    "x-amz-meta-note": "two  words ",
    "If-None-Match": "*",
}


class BotocoresAuth(S3SigV4Auth):
    """The signer of botocore at a given time."""

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        request.context["timestamp"] = MOMENT.strftime(SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)  # type: ignore[misc]  # the stubs leave it out


def theirs(method: str, url: str, headers: dict[str, str], keys: StaticKeys, region: str) -> str:
    request = AWSRequest(method=method, url=url, headers=dict(headers))
    request.context["client_config"] = SimpleNamespace(s3={"payload_signing_enabled": False})
    request.context["timestamp"] = MOMENT.strftime(SIGV4_TIMESTAMP)
    auth = BotocoresAuth(ReadOnlyCredentials(keys.access_key, keys.secret_key, keys.token), "s3", region)
    auth._modify_request_before_signing(request)
    return auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)


@pytest.mark.parametrize("token", [None, "session/token+="], ids=["keys", "session"])
@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/"),
        ("GET", "/?encoding-type=url&list-type=2&max-keys=1000&prefix=a%2Fb%20%C3%BC"),
        ("PUT", "/bucket/a%20b/%C3%BC/~x/../y//z%25%2B"),
        ("POST", "/k?uploads="),
        ("PUT", "/k?partNumber=7&uploadId=id%2Fwith%2Bodd%3Dsigns"),
        ("HEAD", "/k"),
        ("DELETE", "/k?uploadId=1"),
    ],
)
def test_every_request_is_signed_as_botocore_signs_it(method: str, target: str, token: str | None) -> None:
    keys = StaticKeys("AKID", "secret/key+1", token)
    signer = Signer(S3Settings(keys=keys), clock=lambda: MOMENT)
    for headers in ({}, HEADERS):
        signed = signer.sign(method, "h.example:9000", target, headers, "eu-west-1")
        assert signed["Authorization"].rpartition("Signature=")[2] == theirs(
            method, f"http://h.example:9000{target}", headers, keys, "eu-west-1"
        )
        assert headers.items() <= signed.items()
        assert signed.get("X-Amz-Security-Token") == token


def test_the_key_follows_the_day_the_region_and_the_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    now = [MOMENT]
    signer = Signer(S3Settings(region="eu-west-1"), clock=lambda: now[0])
    seen = set()
    for secret in ("one", "two"):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        signer.renew()
        for region in ("eu-west-1", "us-east-1"):
            for days in (0, 1):
                now[0] = MOMENT + timedelta(days=days)
                fresh = Signer(S3Settings(keys=StaticKeys("AKID", secret, None)), clock=lambda: now[0])
                signed = signer.sign("GET", "h", "/", {}, region)
                assert signed == fresh.sign("GET", "h", "/", {}, region)
                seen.add(signed["Authorization"])
    assert len(seen) == 8
