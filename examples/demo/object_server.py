"""An S3 server for demos and tests: moto's, as a process of its own on a loopback socket."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ObjectServer:
    """A running server.

    Attributes:
        endpoint: its address.
        bucket: a bucket, empty at first.
        environment: the variables with which a program on this host, or a container on its network, uses it.
        client: a boto3 client for it.
        pid: of the server's process; None for a server that was running before.
    """

    endpoint: str
    bucket: str
    environment: Mapping[str, str]
    client: Any
    pid: int | None = None


@contextlib.contextmanager
def serve_objects(bucket: str = "training") -> Iterator[ObjectServer]:
    """Serve S3 inside the `with`; afterwards everything that was stored is gone.

    Raises:
        RuntimeError: the server did not come up; the message has its output.
    """
    with tempfile.NamedTemporaryFile(prefix="holdfast-s3-") as log:
        command = [sys.executable, "-u", "-m", "moto.server", "--host", "127.0.0.1", "--port", "0"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            endpoint = _address(process, Path(log.name))
            environment = {
                "AWS_ACCESS_KEY_ID": "demo-access-key",
                "AWS_SECRET_ACCESS_KEY": "demo-secret-key",
                "AWS_REGION": "us-east-1",
                "AWS_ENDPOINT_URL_S3": endpoint,
            }
            client = boto3.client(
                "s3",
                endpoint_url=endpoint,
                region_name=environment["AWS_REGION"],
                aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            )
            client.create_bucket(Bucket=bucket)
            yield ObjectServer(endpoint, bucket, environment, client, process.pid)
            client.close()
        finally:
            process.terminate()
            process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait for the line that tells the address; it comes when the socket listens."""
    give_up = time.monotonic() + START_SECONDS
    while True:
        output = log.read_text(errors="replace")
        found = re.search(r"Running on (http://127\.0\.0\.1:\d+)", output)
        if found:
            return found[1]
        if process.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError(f"moto's server did not come up (is moto[s3,server] installed?):\n{output}")
        time.sleep(0.05)
