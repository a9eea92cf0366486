"""Builds one image of the family: reads images/matrix.toml and runs one `docker build` of images/Dockerfile.

    python -m images.build NAME     builds holdfast/NAME:latest
    python -m images.build --list   prints the names

Read from the environment: DOCKER (`docker`), TAG_PREFIX (`holdfast/`), TAG (`latest`), BASE_IMAGE (the Dockerfile's
default, by digest), CA_BUNDLE (a file; handed to the build as a secret if it exists), UV_FIND_LINKS (over the matrix's
`find_links`), BUILD_NETWORK (`host`: wheels served on loopback are in reach).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MATRIX = ROOT / "images" / "matrix.toml"


@dataclass(frozen=True, slots=True)
class Image:
    """One table of the matrix.

    Attributes:
        name: `pytorch-cpu`.
        summary: what is in it, for people.
        lock: the hash-pinned requirement file, relative to the repository.
        find_links: a page of wheels that the registry does not have; empty for none.
        budget_mb: upper limit of the image's size, in 10^6 bytes.
    """

    name: str
    summary: str
    lock: str
    budget_mb: int
    find_links: str = ""


def read_matrix(path: Path = MATRIX) -> dict[str, Image]:
    """Read every image, by name. Raises TypeError for a field that is unknown or missing."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: Image(name=name, **table) for name, table in tables.items()}


def build_command(image: Image, environment: Mapping[str, str]) -> list[str]:
    """Return the `docker build` command line for an image."""
    tag = f"{environment.get('TAG_PREFIX') or 'holdfast/'}{image.name}:{environment.get('TAG') or 'latest'}"
    command = [environment.get("DOCKER") or "docker", "build", "--file", "images/Dockerfile", "--tag", tag]
    command += ["--network", environment.get("BUILD_NETWORK") or "host", "--build-arg", f"LOCK={image.lock}"]
    base = environment.get("BASE_IMAGE", "")
    if base:
        command += ["--build-arg", f"BASE_IMAGE={base}"]
    bundle = environment.get("CA_BUNDLE", "")
    if bundle and Path(bundle).is_file():
        command += ["--secret", f"id=ca,src={bundle}"]
    if image.find_links:
        find_links = environment.get("UV_FIND_LINKS") or image.find_links
        command += ["--build-arg", f"UV_FIND_LINKS={find_links}"]
    for name, value in labels(image).items():
        command += ["--label", f"org.opencontainers.image.{name}={value}"]
    return [*command, "."]


def labels(image: Image) -> dict[str, str]:
    """Return the labels that differ from image to image and from commit to commit."""
    source = (ROOT / "toolkit" / "holdfast" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    found = {"description": image.summary, "version": version[1] if version else "unknown"}
    # A source archive has no history: no label is better than a wrong one.
    commit = subprocess.run(
        ["git", "log", "-1", "--format=%H %cI"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if commit:
        found |= {"revision": commit[0], "created": commit[1]}
    return found


def main(arguments: list[str]) -> int:
    """Build what the command line names; return the exit status of `docker build`, or 64 for an unknown name."""
    images = read_matrix()
    if arguments == ["--list"]:
        print(*images, sep="\n")
        return 0
    if len(arguments) != 1 or arguments[0] not in images:
        print(f"usage: python -m images.build --list | {' | '.join(images)}", file=sys.stderr)
        return 64
    # The classic builder of old engines knows no secrets and no cache mounts.
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    return subprocess.run(
        build_command(images[arguments[0]], environment), cwd=ROOT, env=environment, check=False
    ).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
