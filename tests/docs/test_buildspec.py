"""buildspec.yml is what CodeBuild reads, and its commands, run by a real shell and a real make, do what it promises."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from typing import Any

import pytest
import yaml
from images.build import read_matrix
from tests.docs.pages import ROOT

# As far as it is used here: docs.aws.amazon.com/codebuild/latest/userguide, build-spec-ref and batch-build-buildspec.
# "*" is any name.
PHASE = {"commands": [str], "finally": [str], "on-failure": str, "run-as": str}
SCHEMA = {
    "version": float,
    "batch": {
        "fast-fail": bool,
        "build-matrix": {
            "static": {"ignore-failure": bool, "env": {"type": str, "privileged-mode": bool}},
            "dynamic": {"env": {"image": [str], "compute-type": [str], "variables": {"*": [str]}}},
        },
    },
    "env": {"shell": str, "variables": {"*": str}},
    "phases": {
        "install": {**PHASE, "runtime-versions": {"*": float}},
        "pre_build": PHASE,
        "build": PHASE,
        "post_build": PHASE,
    },
    "cache": {"paths": [str]},
}
SPEC: dict[str, Any] = yaml.safe_load((ROOT / "buildspec.yml").read_text())
MATRIX = SPEC["batch"]["build-matrix"]
IMAGES = MATRIX["dynamic"]["env"]["variables"]["IMAGE"]
REGISTRY = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


def misfits(value: object, schema: object, where: str) -> list[str]:
    """Return what is not as the schema has it."""
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return [f"{where} is no mapping"]
        unknown = [f"{where}.{key} is unknown" for key in value if key not in schema and "*" not in schema]
        known = {key: schema.get(key, schema.get("*")) for key in value}
        return unknown + [
            text for key in value if known[key] for text in misfits(value[key], known[key], f"{where}.{key}")
        ]
    if isinstance(schema, list):
        if not isinstance(value, list) or not value:
            return [f"{where} is no list with something in it"]
        return [text for item in value for text in misfits(item, schema[0], where)]
    return [] if type(value) is schema else [f"{where} is {value!r}"]


def phase(name: str, image: str, *, succeeding: bool = True) -> str:
    """Run the commands of a phase as CodeBuild does, with a make that says what it would do; return what it says."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    environ |= SPEC["env"]["variables"]
    environ |= {"IMAGE": image, "REGISTRY": REGISTRY, "VERSION": "1.4.0", "MAKEFLAGS": "n"}
    environ["CODEBUILD_BUILD_SUCCEEDING"] = "1" if succeeding else "0"
    script = "\n".join(SPEC["phases"][name]["commands"])
    done = subprocess.run(
        ["bash", "-eu"], input=script, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_structure_is_the_one_that_codebuild_reads() -> None:
    assert misfits(SPEC, SCHEMA, "buildspec") == []
    assert SPEC["version"] == 0.2


def test_the_structure_test_finds_what_is_wrong() -> None:
    assert misfits({"phases": {"biuld": {}}}, SCHEMA, "x") == ["x.phases.biuld is unknown"]
    assert misfits({"phases": {"build": {"commands": "make"}}}, SCHEMA, "x") == [
        "x.phases.build.commands is no list with something in it"
    ]
    assert misfits({"cache": {"paths": [1]}}, SCHEMA, "x") == ["x.cache.paths is 1"]


def test_every_image_of_the_family_has_its_build() -> None:
    assert sorted(IMAGES) == sorted(read_matrix())
    assert SPEC["env"]["variables"]["IMAGE"] in IMAGES


def test_the_builds_may_run_docker_and_have_a_python_that_the_project_takes() -> None:
    assert MATRIX["static"]["env"]["privileged-mode"] is True
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={SPEC['phases']['install']['runtime-versions']['python']}"


def test_every_command_is_a_make_that_a_laptop_has_too() -> None:
    commands = [command for part in SPEC["phases"].values() for command in part.get("commands", [])]
    guarded = re.compile(r'if \[ "\$CODEBUILD_BUILD_SUCCEEDING" = 1 \]; then (make .+); fi')
    bare = [found[1] if (found := guarded.fullmatch(command)) else command for command in commands]
    assert bare
    assert all(re.fullmatch(r"make [^;&|]+", command) for command in bare), bare


@pytest.mark.parametrize("image", IMAGES)
def test_a_build_checks_the_tree_and_tests_the_image_that_it_builds(image: str) -> None:
    checks = phase("pre_build", image)
    assert all(tool in checks for tool in ("ruff check", "mypy", "coverage run -m pytest --ignore tests/images"))
    built = phase("build", image)
    assert f"images.build {image}" in built
    assert f'HOLDFAST_TEST_IMAGE="holdfast/{image}:latest"' in built
    assert "docker push" not in checks + built


@pytest.mark.parametrize("image", IMAGES)
def test_a_build_that_succeeded_pushes_the_version_and_then_the_tag_that_moves(image: str) -> None:
    pushed = phase("post_build", image)
    assert f'login --username AWS --password-stdin "{REGISTRY}"' in pushed
    assert f'docker push "{REGISTRY}/holdfast/{image}:' in pushed
    assert pushed.index("1.4.0") < pushed.rindex("latest")


def test_a_build_that_failed_pushes_nothing() -> None:
    assert phase("post_build", IMAGES[0], succeeding=False) == ""
