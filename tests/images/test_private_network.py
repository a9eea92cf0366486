"""A build inside a company's network, with its index, certificate, proxy and mirror of the base."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import docker
import pytest
from images.build import ROOT, Image, labels, read_matrix
from tests.images.containers import Containers
from tests.images.private_network import PASSWORD, private_network

pytestmark = pytest.mark.docker

LOCKS = ("images/tools.txt", "images/supervisor.txt", "images/base-cpu.txt")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels of base-cpu, from the public registry."""
    folder = tmp_path_factory.mktemp("wheels")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--dest",
        str(folder),
    ]
    command += ["--only-binary=:all:", "--python-version=3.11"]
    command += [f"--platform={name}_x86_64" for name in ("manylinux_2_28", "manylinux_2_17", "manylinux2014")]
    for lock in LOCKS:
        subprocess.run([*command, "--requirement", str(ROOT / lock)], check=True)
    return folder


@pytest.fixture(scope="module")
def base(engine: docker.DockerClient, image: str, row: Image) -> str:
    """The company's mirror of the base image."""
    if row.name != "base-cpu":
        pytest.skip("once is enough: with base-cpu")
    found = engine.images.get(image).labels["org.opencontainers.image.base.name"]
    engine.images.get(found).tag("mirror.invalid/debian-python", "3.11")
    return "mirror.invalid/debian-python:3.11"


def test_an_image_is_built_from_a_private_index_through_a_proxy_and_keeps_nothing_of_them(
    engine: docker.DockerClient, containers: Containers, base: str, wheels: Path, tmp_path: Path
) -> None:
    tag = f"private-{uuid.uuid4().hex}"
    name = f"holdfast/base-cpu:{tag}"
    with private_network(wheels, tmp_path) as network:
        environment = {
            **os.environ,
            "BASE_IMAGE": base,
            "TAG_PREFIX": "holdfast/",
            "TAG": tag,
            "INDEX_URL": network.index,
            "CA_BUNDLE": str(network.ca),
            "NETRC": str(network.netrc),
            "https_proxy": network.proxy,
            "no_proxy": "",
        }
        built = subprocess.run(
            ["make", "image/base-cpu", f"PYTHON={sys.executable}"],
            cwd=ROOT, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert built.returncode == 0, built.stderr
    try:
        assert {path.name for path in wheels.iterdir()} == set(network.served)
        assert set(network.tunnels) == {network.index.split("/")[2]}
        image = engine.images.get(name)
        assert image.labels["org.opencontainers.image.base.name"] == base
        said = f"{image.attrs['Config']} {image.history()}"
        certificate = network.ca.read_text().splitlines()[5]
        for secret in (PASSWORD, network.index, network.proxy, certificate):
            assert secret not in said
            found = containers.run("grep", "-rlsF", secret, "/bin", "/etc", "/opt", "/root", "/usr", "/var", image=name)
            assert (found.code, found.out) == (1, "")
        containers.remove_all()
    finally:
        engine.images.remove(name)
        engine.images.remove(base)


def test_labels_of_a_mirrored_base_keep_its_digest() -> None:
    digest = f"sha256:{'0' * 64}"
    found = labels(read_matrix()["base-cpu"], {"BASE_IMAGE": f"mirror.invalid/python@{digest}"})
    assert (found["base.name"], found["base.digest"]) == ("mirror.invalid/python", digest)
