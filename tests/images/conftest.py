"""One engine, one image and one S3 server for all image tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException
from images.build import Image, read_matrix
from tests.images.containers import Containers

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """A Docker engine. Without one the tests are skipped, or fail with HOLDFAST_REQUIRE_DOCKER=1."""
    try:
        client = docker.from_env(timeout=120)
        client.ping()
    except DockerException as error:
        if os.environ.get("HOLDFAST_REQUIRE_DOCKER") == "1":
            pytest.fail(f"HOLDFAST_REQUIRE_DOCKER=1, and no Docker engine answers: {error}")
        pytest.skip(f"no Docker engine answers: {error}")
    yield client
    client.close()


@pytest.fixture(scope="session")
def image(engine: docker.DockerClient) -> str:
    """The image under test: HOLDFAST_TEST_IMAGE, or base-cpu as `make` builds it from this tree."""
    given = os.environ.get("HOLDFAST_TEST_IMAGE")
    if given:
        return str(engine.images.get(given).tags[0])
    built = subprocess.run(["make", "image/base-cpu"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, f"make image/base-cpu (set BASE_IMAGE where no registry is in reach):\n{built.stderr}"
    return f"{os.environ.get('TAG_PREFIX') or 'holdfast/'}base-cpu:{os.environ.get('TAG') or 'latest'}"


@pytest.fixture(scope="session")
def row(image: str) -> Image:
    """The row of the matrix for the image under test."""
    return read_matrix()[image.partition(":")[0].rpartition("/")[2]]


@pytest.fixture
def containers(engine: docker.DockerClient, image: str) -> Iterator[Containers]:
    """Starts containers of the image under test, and removes them."""
    started = Containers(engine, image)
    yield started
    started.remove_all()
