"""The contract of an image with users who start it or build on it."""

from __future__ import annotations

import re
from datetime import datetime

import docker
import pytest
from images.build import Image
from tests.images.containers import Containers, ended

import holdfast

pytestmark = pytest.mark.docker

SUPERVISOR = ["/opt/holdfast/bin/python", "-I", "-u", "-m", "holdfast_entrypoint"]


def test_entrypoint_is_in_exec_form_and_isolated(engine: docker.DockerClient, image: str) -> None:
    config = engine.images.get(image).attrs["Config"]
    assert config["Entrypoint"] == SUPERVISOR
    assert config["Cmd"] == ["train"]
    assert config["WorkingDir"] == "/opt/ml/code"
    assert config.get("StopSignal") in (None, "", "SIGTERM")


def test_labels_describe_the_image(engine: docker.DockerClient, image: str, row: Image) -> None:
    labels = engine.images.get(image).labels
    assert labels["org.opencontainers.image.title"] == "holdfast"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.version"] == holdfast.__version__
    assert labels["org.opencontainers.image.description"] == row.summary
    assert re.fullmatch("[0-9a-f]{40}(-dirty)?", labels["org.opencontainers.image.revision"])
    assert datetime.fromisoformat(labels["org.opencontainers.image.created"]).tzinfo
    assert labels["org.opencontainers.image.base.name"]


def test_it_runs_as_root_unless_told_otherwise_and_opens_no_port(engine: docker.DockerClient, image: str) -> None:
    """SageMaker, ECS volumes and bind mounts belong to root."""
    config = engine.images.get(image).attrs["Config"]
    assert config["User"] in ("", "root", "0")
    assert not config.get("ExposedPorts")
    assert not config.get("Volumes")


def test_gpus_are_visible_without_an_nvidia_base(engine: docker.DockerClient, image: str) -> None:
    environment = engine.images.get(image).attrs["Config"]["Env"]
    assert "NVIDIA_VISIBLE_DEVICES=all" in environment
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in environment


def test_size_stays_in_the_budget(engine: docker.DockerClient, image: str, row: Image) -> None:
    size = engine.images.get(image).attrs["Size"] / 1e6
    assert size <= row.budget_mb, f"{row.name} has {size:.0f} MB; images/matrix.toml says {row.size_mb}"


def test_a_change_of_our_own_code_ships_the_last_layer_only_and_that_is_small(
    engine: docker.DockerClient, image: str
) -> None:
    filled = [layer for layer in engine.images.get(image).history() if layer["Size"]]
    assert filled[0]["CreatedBy"].startswith("COPY /out/ /")
    assert filled[0]["Size"] <= 30e6


def test_no_build_tool_and_no_cache_stays_in_the_image(containers: Containers) -> None:
    left = "/root/.cache /root/.netrc /src /wheel /lock.txt /tools.txt /opt/tools /out"
    caches = "/var/cache/apt/*.bin /var/cache/apt/archives/*.deb /var/lib/apt/lists/*"
    end = containers.run("sh", "-c", f"command -v uv hatchling; ls -d {left} {caches}")
    assert end.out == ""


def test_a_compiler_is_in_the_image_only_where_the_matrix_says_so(containers: Containers, row: Image) -> None:
    end = containers.run("sh", "-c", "command -v gcc cc as ld")
    assert bool(end.out) == ("gcc" in row.apt)


def test_no_program_changes_its_user(containers: Containers) -> None:
    end = containers.run("find", "/", "-xdev", "-perm", "/6000", "-type", "f")
    assert (end.code, end.out) == (0, "")


def test_certificates_are_debians_own_and_not_those_of_the_network_it_was_built_in(containers: Containers) -> None:
    """`update-ca-certificates` would write the same bundle again."""
    bundle = "sha256sum /etc/ssl/certs/ca-certificates.crt"
    end = containers.run("sh", "-c", f"{bundle}; update-ca-certificates --fresh > /dev/null && {bundle}")
    before, after = end.out.splitlines()
    assert before == after


def test_no_secret_is_in_the_configuration_or_the_history(engine: docker.DockerClient, image: str) -> None:
    built = engine.images.get(image)
    environment = {line.partition("=")[0] for line in built.attrs["Config"]["Env"]}
    assert environment == {
        "LANG", "NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_VISIBLE_DEVICES", "PATH", "PYTHONUNBUFFERED", "VIRTUAL_ENV",
    } | (environment & {"GPG_KEY", "PYTHON_VERSION", "PYTHON_SHA256"})  # fmt: skip
    commands = " ".join(layer["CreatedBy"] for layer in built.history())
    assert not any(word in commands for word in ("INDEX_URL", "UV_DEFAULT_INDEX", "UV_FIND_LINKS", "://"))


def test_python_and_pip_are_those_of_the_user_environment(containers: Containers) -> None:
    end = containers.run("sh", "-c", "command -v python; command -v pip; command -v holdfast")
    assert end.out.splitlines() == ["/opt/venv/bin/python", "/opt/venv/bin/pip", "/usr/local/bin/holdfast"]


def test_scripts_can_import_the_helper_and_not_the_supervisors_packages(containers: Containers) -> None:
    end = containers.run("python", "-c", "import holdfast, importlib.util as u; print(u.find_spec('awscrt'))")
    assert (end.code, end.out) == (0, "None\n")


def test_supervisor_has_its_data_plane(containers: Containers) -> None:
    end = containers.run("-I", "-c", "import awscrt, boto3, watchdog", entrypoint="/opt/holdfast/bin/python")
    assert (end.code, end.err) == (0, "")


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


def test_the_time_to_the_first_line_is_printed(containers: Containers, capsys: pytest.CaptureFixture[str]) -> None:
    """A rough figure of what holdfast adds to a start; `make start/NAME` measures it."""
    first_line = "import time; print(time.time())"
    ways = {
        "bare": containers.start("-c", first_line, entrypoint="/opt/venv/bin/python"),
        "holdfast": containers.start("python", "-c", first_line),
    }
    for way, container in ways.items():
        end = ended(container)
        assert end.code == 0, end.err
        container.reload()
        began = datetime.fromisoformat(container.attrs["State"]["StartedAt"])
        with capsys.disabled():
            print(f" {way} {1000 * (float(end.out) - began.timestamp()):.0f} ms", end="")
