"""Every command line of the pages can be typed: its program, its flags and what it names exist."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name
from examples.demo.object_server import ObjectServer
from images.build import read_matrix
from tests.docs.pages import PAGES, ROOT, Block, CommandLine, blocks, command_lines, each

IMAGE = re.compile(r"(?:\S+/)?my-training(?::[\w.]+)?|holdfast/(?P<ours>[\w-]+)")
# What the AWS CLI adds to every command, and its one command here that is no operation of an API.
AWS_EVERYWHERE = {"region", "output", "query", "cli-input-json"}
AWS_OF_ITS_OWN = {("ecr", "get-login-password")}
BY_HAND = [block for block in blocks("sh") if re.search(r"^holdfast ", block.text, re.MULTILINE)]


def inline(program: str) -> list[str]:
    found = [code for page in PAGES for code in re.findall(rf"`({program} [^`\n]+)`", page.read_text())]
    return sorted(set(found))


def make(words: list[str]) -> subprocess.CompletedProcess[str]:
    """Let make say what it would do, also where the tests are run by a make themselves."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--dry-run", *words]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)


@cache
def docker_run_flags() -> dict[str, bool]:
    """Return every flag of `docker run`, and whether it takes a value."""
    shown = subprocess.run(["docker", "run", "--help"], capture_output=True, text=True, check=True).stdout
    flags = {}
    for short, long, kind in re.findall(r"^ +(?:-(\w), )?--([\w-]+)(?: ([\w-]+))?(?:  |$)", shown, re.MULTILINE):
        flags[f"--{long}"] = bool(kind)
        if short:
            flags[f"-{short}"] = bool(kind)
    return flags


def read_docker_run(words: list[str]) -> tuple[list[tuple[str, str]], str]:
    """Return the flags with their values, and the image."""
    given: list[tuple[str, str]] = []
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            return given, word
        flag, equals, value = word.partition("=")
        assert flag in docker_run_flags(), f"docker run has no {flag}"
        given.append((flag, value if equals or not docker_run_flags()[flag] else next(rest)))
    raise AssertionError("docker run without an image")


@pytest.mark.skipif(shutil.which("docker") is None, reason="needs Docker's client: it says which flags it has")
@each([line for line in command_lines("docker") if line.words[1] == "run"])
def test_docker_run_has_these_flags_and_this_image(item: CommandLine) -> None:
    given, image = read_docker_run(list(item.words[2:]))
    named = IMAGE.fullmatch(image)
    assert named, f"{image} is neither the reader's image nor one of ours"
    assert named["ours"] is None or named["ours"] in read_matrix()
    variables = dict(value.partition("=")[::2] for flag, value in given if flag in ("-e", "--env"))
    stop = dict(given).get("--stop-timeout")
    assert stop is None or stop == variables.get("HOLDFAST_GRACE_SECONDS"), "the grace has to be told twice"


@each(command_lines("make"))
def test_make_has_these_targets(item: CommandLine) -> None:
    would = make(list(item.words[1:]))
    assert would.returncode == 0, would.stderr


@pytest.mark.parametrize("code", inline("make"))
def test_make_has_the_targets_that_the_text_names(code: str) -> None:
    would = make(shlex.split(code.replace("…", ""))[1:])
    assert would.returncode == 0, would.stderr


@each(command_lines("aws"))
def test_aws_has_this_operation_and_these_parameters(item: CommandLine) -> None:
    service, operation, *rest = item.words[1:]
    flags = {word.removeprefix("--").partition("=")[0] for word in rest if word.startswith("--")} - AWS_EVERYWHERE
    if (service, operation) in AWS_OF_ITS_OWN:
        assert not flags
        return
    model = botocore.session.get_session().get_service_model(service)
    (found,) = (name for name in model.operation_names if xform_name(name, "-") == operation)
    shape = model.operation_model(found).input_shape
    assert shape is not None
    assert flags <= {xform_name(member, "-") for member in shape.members}


@each(BY_HAND)
def test_the_commands_by_hand_do_what_they_say(item: Block, tmp_path: Path, s3_server: ObjectServer) -> None:
    """The block as it stands, on an S3 server of ours; only what installs holdfast is left out: it is installed."""
    s3_server.client.create_bucket(Bucket="my-bucket")
    (tmp_path / "epoch-9.pt").write_bytes(b"pushed by hand")
    (tmp_path / "train.py").write_text(
        "import sys, holdfast\n"
        "for epoch in range(int(sys.argv[2])):\n"
        "    with holdfast.save(holdfast.checkpoint_dir() / f'epoch-{epoch}.pt') as file:\n"
        "        file.write_bytes(b'trained')\n"
    )
    text = "".join(line for line in item.text.splitlines(keepends=True) if not line.startswith("pip "))
    done = subprocess.run(
        ["bash", "-eu"],
        input=text,
        cwd=tmp_path,
        env=dict(s3_server.environment)
        | {
            "HOME": str(tmp_path),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "AWS_EC2_METADATA_DISABLED": "true",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "restored/epoch-9.pt").read_bytes() == b"trained"
    assert "epoch-9.pt: 1 file," in done.stdout
    assert re.search(r"^\d{6}-\d{6}  ok$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("code", inline("holdfast"))
def test_holdfast_has_the_verbs_and_options_that_the_text_names(code: str) -> None:
    verb, *rest = code.split()[1:]
    command = [sys.executable, "-m", "holdfast_entrypoint", *([verb] if verb.isalpha() else []), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert f"holdfast {verb}" in shown.stdout
    assert {word for word in rest if re.match(r"--\w", word)} <= set(re.findall(r"--[\w-]+", shown.stdout))
