"""Every fenced block of every page is what its language says."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import yaml
from images.build import read_matrix
from tests.docs.pages import ROOT, Block, blocks, each

LANGUAGES = {"", "dockerfile", "json", "python", "sh", "yaml"}


def test_every_block_is_in_a_language_that_is_tried_here() -> None:
    assert {block.language for block in blocks()} <= LANGUAGES


def test_what_has_no_language_is_output_or_a_drawing_and_no_command() -> None:
    commands = re.compile(r"^(make|docker|holdfast|aws|pip|FROM|kubectl) ", re.MULTILINE)
    assert not [block.name for block in blocks("") if commands.search(block.text)]


@each(blocks("json"))
def test_json_is_json(item: Block) -> None:
    assert json.loads(item.text)


@each(blocks("yaml"))
def test_yaml_is_yaml(item: Block) -> None:
    assert list(yaml.safe_load_all(item.text))


@each(blocks("python"))
def test_python_is_python(item: Block) -> None:
    assert ast.parse(item.text).body


@each(blocks("sh"))
def test_shell_is_shell(item: Block) -> None:
    read = subprocess.run(["bash", "-n"], input=item.text, capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")


@each(blocks("dockerfile"))
def test_a_dockerfile_is_one_and_starts_from_an_image_of_ours(item: Block, tmp_path: Path) -> None:
    images = re.findall(r"^FROM holdfast/(\S+)$", item.text, re.MULTILINE)
    assert images
    assert set(images) <= set(read_matrix())
    (tmp_path / "Dockerfile").write_text(item.text)
    # DL3006 wants a tag; what `make image/NAME` builds on this machine has none to name.
    hadolint = str(Path(sys.executable).with_name("hadolint"))
    command = [hadolint, "--ignore", "DL3006", str(tmp_path / "Dockerfile")]
    seen = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert seen.returncode == 0, seen.stdout + seen.stderr
