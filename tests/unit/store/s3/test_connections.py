"""Connections that break, proxies and TLS, over real sockets."""

from __future__ import annotations

import datetime as dt
import ipaddress
import resource
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.s3_requests import BYTES, DONE, LARGE, open_at, read_all
from tests.servers import KEYS, SECRET, Answer, ScriptedServer

from holdfast.checksum import crc64nvme
from holdfast.errors import ConfigError, PermanentStoreError, TransientStoreError
from holdfast.stop import StopToken
from holdfast.store import Part
from holdfast.store.location import Location
from holdfast.store.s3 import connections as s3_connections
from holdfast.store.s3.settings import from_environ
from holdfast.store.s3.store import S3Store


@pytest.mark.parametrize(
    ("answer", "ask"),
    [
        (Answer(reset_after=0), S3Store.check),
        (Answer(body=b"x" * 100, cut_after=40), read_all),
        (Answer(206, {"Content-Range": "bytes 0-9/10"}, b"x" * 4), lambda store: read_all(store, size=10)),
        (Answer(body=b"<ListBucketResult></ListBucketResult>", cut_after=8), lambda store: list(store.list(""))),
        (Answer(503, body=b"x" * 100, cut_after=40), S3Store.check),
        (Answer(reset_after=3), lambda store: store.put("k", BYTES)),
        (Answer(reset_after=1 << 20), lambda store: store.put("k", LARGE)),
    ],
)  # fmt: skip
def test_a_connection_that_breaks_is_transient_and_the_next_one_works(
    answer: Answer, ask: Callable[[S3Store], object]
) -> None:
    with ScriptedServer(answer, DONE) as server:
        store = open_at(server)
        with pytest.raises(TransientStoreError):
            ask(store)
        store.delete("k")


def test_a_server_that_does_not_answer_times_out() -> None:
    release = threading.Event()
    with ScriptedServer(Answer(waits_for=release)) as server:
        settings = replace(from_environ(server.environ()), read_seconds=0.2)
        with pytest.raises(TransientStoreError, match="does not answer"):
            S3Store(Location("s3", "data", ""), settings).check()
        release.set()


@pytest.mark.parametrize("before", [[], [DONE]], ids=["new connection", "connection used before"])
def test_a_server_that_reads_a_body_slowly_does_not_time_out(before: list[Answer]) -> None:
    """The connect timeout must not hold for sending."""
    release = threading.Event()
    with ScriptedServer(*before, replace(DONE, waits_for=release)) as server:
        settings = replace(from_environ(server.environ()), connect_seconds=0.2)
        store = S3Store(Location("s3", "data", ""), settings)
        for _ in before:
            store.delete("k")
        threading.Timer(1.0, release.set).start()
        assert store.put("k", LARGE) == '"e"'


def test_the_read_timeout_is_at_most_half_of_the_seconds_left() -> None:
    release = threading.Event()
    with ScriptedServer(Answer(waits_for=release), DONE) as server:
        store = S3Store(
            Location("s3", "data", ""), from_environ(server.environ()), stop=StopToken(seconds_left=lambda: 0.0)
        )
        with pytest.raises(TransientStoreError, match="does not answer"):
            store.put("k", BYTES)  # after a second, which is the least, and not after 60
        store.put("k", BYTES)
        release.set()


def test_a_refused_connection_is_transient_and_names_the_address() -> None:
    store = S3Store(
        Location("s3", "data", ""),
        from_environ({**KEYS, "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}),
    )
    with pytest.raises(TransientStoreError, match=r"http://127\.0\.0\.1:1 does not answer \(Connection refused\)"):
        store.check()
    settings = replace(from_environ(KEYS), endpoint="http://nowhere.invalid")
    with pytest.raises(TransientStoreError, match=r"http://nowhere\.invalid has no address"):
        S3Store(Location("s3", "data", ""), settings).check()


def test_without_a_free_file_descriptor_the_advice_is_to_raise_the_limit() -> None:
    store = S3Store(Location("s3", "data", ""), from_environ({**KEYS, "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Path("/dev/null").open() as highest:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest.fileno() + 1, limits[1]))
        try:
            with pytest.raises(TransientStoreError, match=r"Too many open files\): raise the limit"):
                store.check()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_proxy_gets_the_whole_url_of_a_plain_request() -> None:
    with ScriptedServer(DONE, DONE) as proxy:
        environ = proxy.environ(AWS_ENDPOINT_URL_S3="http://storage.invalid:9000", http_proxy=proxy.endpoint)
        S3Store(Location("s3", "data", "p"), from_environ(environ)).delete("a b")
        (seen,) = proxy.seen
        assert seen.target == "http://storage.invalid:9000/data/p/a%20b"
        assert seen.headers["host"] == "storage.invalid:9000"
        S3Store(
            Location("s3", "data", "p"),
            from_environ(proxy.environ(http_proxy="http://127.0.0.1:1", no_proxy="127.0.0.1")),
        ).delete("k")


def test_a_proxy_makes_a_tunnel_for_tls() -> None:
    with ScriptedServer(Answer(403)) as proxy:
        environ = proxy.environ(AWS_ENDPOINT_URL_S3="https://storage.invalid", https_proxy=proxy.endpoint)
        with pytest.raises(TransientStoreError, match="through the proxy"):
            S3Store(Location("s3", "data", "p"), from_environ(environ)).delete("k")
    assert [(seen.method, seen.target) for seen in proxy.seen] == [("CONNECT", "storage.invalid:443")]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for 127.0.0.1 that is not trusted, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(folder / "cert.pem"), str(folder / "key.pem")


@pytest.mark.parametrize(
    "answer", [Answer(body=bytes(3 << 20), cut_after=1 << 20), Answer(reset_after=0), Answer(status=503, cut_after=0)]
)
def test_tls_that_breaks_is_transient_and_the_next_connection_works(
    certificate: tuple[str, str], answer: Answer
) -> None:
    with ScriptedServer(replace(answer, headers=DONE.headers), DONE, tls=certificate) as server:
        store = open_at(server, AWS_CA_BUNDLE=certificate[0])
        with pytest.raises(TransientStoreError):
            read_all(store)
        store.delete("k")


def test_one_tls_connection_serves_requests_of_all_sizes_one_after_the_other(certificate: tuple[str, str]) -> None:
    content = bytes(range(256)) * (5 << 12)  # 5 MiB
    answers = [replace(DONE, body=content[:size]) for size in (0, 1, 1 << 14, 1 << 18, len(content))]
    with ScriptedServer(*answers, DONE, tls=certificate) as server:
        store = open_at(server, AWS_CA_BUNDLE=certificate[0])
        for answer in answers:
            assert read_all(store) == answer.body
        store.put("k", Part.of(content))
    assert server.seen[-1].body == content
    assert server.connections == 1


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_certificate_is_trusted_when_its_authority_is_named(certificate: tuple[str, str], variable: str) -> None:
    size = 3 << 20
    with ScriptedServer(DONE, replace(DONE, body=bytes(size)), tls=certificate) as server:
        store = open_at(server, **{variable: certificate[0]})
        store.put("k", Part(bytes(size), 0, size, crc64nvme(bytes(size))))
        assert len(read_all(store)) == size
    assert server.seen[0].signature_fits(SECRET)
    assert len(server.seen[0].body) == size


def test_a_certificate_of_an_unknown_authority_is_refused(certificate: tuple[str, str]) -> None:
    with ScriptedServer(DONE, tls=certificate) as server, pytest.raises(PermanentStoreError, match="set AWS_CA_BUNDLE"):
        open_at(server).delete("k")
    assert server.seen == []


def test_a_bundle_without_certificates_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("no certificate")
    for bundle in (tmp_path / "missing.pem", tmp_path / "empty.pem"):
        environ = {**KEYS, "AWS_ENDPOINT_URL_S3": "https://127.0.0.1:1", "AWS_CA_BUNDLE": str(bundle)}
        store = S3Store(Location("s3", "data", "p"), from_environ(environ))
        with pytest.raises(ConfigError, match="AWS_CA_BUNDLE"):
            store.check()


@pytest.mark.parametrize(("fresh", "connections"), [(3600.0, 1), (0.0, 3)])
def test_a_connection_that_was_idle_for_long_is_not_reused(
    fresh: float, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_connections, "_FRESH", fresh)
    with ScriptedServer(DONE, DONE, DONE) as server:
        store = open_at(server)
        for _ in range(3):
            store.put("k", BYTES)
        assert server.connections == connections
