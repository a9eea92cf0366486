"""Our own S3 server for measurements (`benchmarks.s3`), started as a process of its own on loopback."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import trustme


@dataclass(frozen=True, slots=True)
class Counted:
    """What the server counted since the last reset.

    Attributes:
        requests: how many, by the names that S3 gives them.
        received: bytes of requests, heads included, inside of TLS.
        sent: bytes of answers, likewise.
        cpu_seconds: of the server itself.
    """

    requests: Mapping[str, int]
    received: int
    sent: int
    cpu_seconds: float

    @property
    def all_requests(self) -> int:
        """How many there were."""
        return sum(self.requests.values())


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs.

    Attributes:
        endpoint: its URL.
        authority: file with the certificate to trust; None without TLS.
    """

    endpoint: str
    authority: Path | None

    @property
    def environ(self) -> dict[str, str]:
        """Variables with which holdfast, AWS's tools and libraries, and most others use this server."""
        environ = {
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        if self.authority is not None:
            environ |= {name: str(self.authority) for name in ("AWS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")}
        return environ

    def counted(self) -> Counted:
        """Ask for the counters."""
        return Counted(**json.loads(self.request("GET", "/-/")))

    def reset(self) -> None:
        """Set the counters to nothing."""
        self.request("POST", "/-/")

    def forget(self, bucket: str) -> None:
        """Drop everything that lies in a bucket."""
        self.request("DELETE", f"/-/{bucket}")

    def request(self, method: str, target: str, body: bytes = b"") -> bytes:
        """Make a request of the server, unsigned, and return the body of its answer.

        Raises:
            OSError: it did not succeed.
        """
        host = urlsplit(self.endpoint).netloc
        if self.authority is None:
            connection = http.client.HTTPConnection(host)
        else:
            context = ssl.create_default_context(cafile=str(self.authority))
            connection = http.client.HTTPSConnection(host, context=context)
        try:
            connection.request(method, target, body)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= 300:
            raise OSError(f"{method} {target}: {answer.status} {content.decode('utf-8', 'replace')}")
        return content


@contextmanager
def serve(folder: Path = Path("/dev/shm"), *, tls: bool = False, most_gib: float = 6) -> Iterator[Server]:
    """Run a server as long as the `with` lasts; what was stored is gone afterwards.

    Args:
        folder: where contents above 1 MiB lie; smaller ones are in the server's memory.
        tls: with a certificate of an authority made for this.
        most_gib: more than that is refused (507): what lies in memory is taken from everybody on the machine.
    """
    with tempfile.TemporaryDirectory(prefix="bench-authority-") as certificates:
        command = [sys.executable, "-m", "benchmarks.s3", "--folder", str(folder), "--most-gib", str(most_gib)]
        authority = None
        if tls:
            authority, certificate = _certificates(Path(certificates))
            command += ["--certificate", str(certificate)]
        root = Path(__file__).parent.parent
        with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                endpoint = process.stdout.readline().strip()
                if not endpoint:
                    raise OSError("the server for measurements did not start; its message is above")
                yield Server(endpoint, authority)
            finally:
                process.stdin.close()  # it ends with this process


def _certificates(folder: Path) -> tuple[Path, Path]:
    """Write the certificate of an authority, and one for loopback with its key; return both files."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return folder / "authority.pem", folder / "server.pem"
