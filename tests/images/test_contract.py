"""What an image promises to those who start it or build on it."""

from __future__ import annotations

import docker
import pytest
from images.build import read_matrix
from tests.images.containers import Containers

import holdfast

pytestmark = pytest.mark.docker

SUPERVISOR = ["/opt/holdfast/bin/python", "-I", "-u", "-m", "holdfast_entrypoint"]


def test_entrypoint_is_in_exec_form_and_isolated(engine: docker.DockerClient, image: str) -> None:
    config = engine.images.get(image).attrs["Config"]
    assert config["Entrypoint"] == SUPERVISOR
    assert config["Cmd"] == ["train"]
    assert config["WorkingDir"] == "/opt/ml/code"
    assert config.get("StopSignal") in (None, "", "SIGTERM")


def test_labels_tell_what_the_image_is(engine: docker.DockerClient, image: str) -> None:
    labels = engine.images.get(image).labels
    name = image.partition(":")[0].rpartition("/")[2]
    assert labels["org.opencontainers.image.title"] == "holdfast"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.version"] == holdfast.__version__
    assert labels["org.opencontainers.image.description"] == read_matrix()[name].summary


def test_gpus_are_visible_without_an_nvidia_base(engine: docker.DockerClient, image: str) -> None:
    environment = engine.images.get(image).attrs["Config"]["Env"]
    assert "NVIDIA_VISIBLE_DEVICES=all" in environment
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in environment


def test_size_stays_in_the_budget(engine: docker.DockerClient, image: str) -> None:
    name = image.partition(":")[0].rpartition("/")[2]
    assert engine.images.get(image).attrs["Size"] / 1e6 <= read_matrix()[name].budget_mb


def test_no_build_tool_and_no_cache_stays_in_the_image(containers: Containers) -> None:
    ended = containers.run(
        "sh", "-c", "command -v uv hatchling; ls -d /root/.cache /src /wheel /lock.txt /opt/tools /out"
    )
    assert ended.out == ""


def test_python_and_pip_are_those_of_the_user_environment(containers: Containers) -> None:
    ended = containers.run("sh", "-c", "command -v python; command -v pip; command -v holdfast")
    assert ended.out.splitlines() == ["/opt/venv/bin/python", "/opt/venv/bin/pip", "/usr/local/bin/holdfast"]


def test_scripts_can_import_the_helper_and_not_the_supervisors_packages(containers: Containers) -> None:
    ended = containers.run("python", "-c", "import holdfast, importlib.util as u; print(u.find_spec('boto3'))")
    assert (ended.code, ended.out) == (0, "None\n")


def test_supervisor_has_its_data_plane(containers: Containers) -> None:
    ended = containers.run("-I", "-c", "import awscrt, boto3, watchdog", entrypoint="/opt/holdfast/bin/python")
    assert (ended.code, ended.err) == (0, "")


def test_everything_is_compiled_and_never_checked_against_its_source(containers: Containers) -> None:
    program = """
import importlib.util, pathlib, sys
without = []
for source in pathlib.Path(sys.prefix, "lib").rglob("site-packages/**/*.py"):
    compiled = pathlib.Path(importlib.util.cache_from_source(source))
    if compiled.exists():
        flags = int.from_bytes(compiled.read_bytes()[4:8], "little")
        if flags != 0b01:
            without.append(f"{source} is checked")
    elif "holdfast" in str(source):
        without.append(f"{source} is not compiled")
print(*without, sep="\\n", end="")
"""
    for python in ("/opt/venv/bin/python", "/opt/holdfast/bin/python"):
        assert containers.run("-I", "-c", program, entrypoint=python).out == ""
