"""Containers under test: run one to its end, or start one and look into it."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.errors import NotFound
from docker.models.containers import Container

PATIENCE = 90.0
"""Seconds after which a wait fails; far more than any wait needs."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a container: exit code and output."""

    code: int
    out: str
    err: str


class Containers:
    """Containers of one image; all that were started are removed at the end."""

    def __init__(self, engine: docker.DockerClient, image: str) -> None:
        self.engine = engine
        self.image = image
        self._started: list[Container] = []

    def start(self, *command: str, files: dict[str, str] | None = None, **options: Any) -> Container:
        """Start a container with `files` (name: text) in /opt/ml/code; options as docker-py's `containers.create`."""
        image = options.pop("image", self.image)
        container = self.engine.containers.create(image, list(command), **options)
        self._started.append(container)
        if files:
            container.put_archive("/opt/ml/code", archive(files))
        container.start()
        return container

    def run(self, *command: str, **options: Any) -> Ended:
        """Run a container to its end."""
        return ended(self.start(*command, **options))

    def remove_all(self) -> None:
        for container in self._started:
            with contextlib.suppress(NotFound):
                container.remove(force=True)


def archive(files: dict[str, str]) -> bytes:
    """Return a tar archive of text files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def ended(container: Container) -> Ended:
    """Wait for the end of a container."""
    status = container.wait(timeout=PATIENCE)
    out = container.logs(stdout=True, stderr=False).decode()
    return Ended(int(status["StatusCode"]), out, container.logs(stdout=False, stderr=True).decode())


def wait_for_line(container: Container, line: str) -> None:
    """Wait until the container has printed this line."""
    give_up = time.monotonic() + PATIENCE
    while line not in container.logs().decode().splitlines():
        container.reload()
        assert container.status == "running", f"ended before {line!r}:\n{container.logs().decode()}"
        assert time.monotonic() < give_up, f"no {line!r}:\n{container.logs().decode()}"
        time.sleep(0.1)


def read_json(container: Container, path: str) -> dict[str, Any]:
    """Read a JSON file out of a container, running or ended."""
    chunks, _ = container.get_archive(path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        content = tar.extractfile(Path(path).name)
        assert content is not None
        value = json.loads(content.read())
    assert isinstance(value, dict)
    return value
