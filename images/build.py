"""Build one image of images/matrix.toml with images/Dockerfile.

    python -m images.build NAME     builds holdfast/NAME:latest
    python -m images.build --list   prints the names; --list-cpu and --list-gpu those for one device

Read from the environment: DOCKER (`docker`), TAG_PREFIX (`holdfast/`), TAG (`latest`), BASE_IMAGE (the Dockerfile's
default, by digest), CA_BUNDLE and NETRC (files; handed to the build as secrets if they exist), INDEX_URL (a private
package index), UV_FIND_LINKS (over the matrix's `find_links`), BUILD_NETWORK (`host`: wheels served on loopback are in
reach), and the proxy variables that Docker knows. BUILD_FLAGS is added as it is (`--no-cache`).
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parent.parent
MATRIX = ROOT / "images" / "matrix.toml"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True, slots=True)
class Image:
    """One table of the matrix.

    Attributes:
        name: name such as `pytorch-cpu`.
        summary: one sentence for the page and the description label.
        size_mb: measured size, in 10^6 bytes.
        apt: Debian packages that the wheels need.
        builder: stage of the Dockerfile that fills /opt/venv.
        find_links: page of wheels that the registry does not have; empty for none.
        aws_mb: stated size of AWS's own image of this kind, in 10^6 bytes; None: not stated.
        status: `maintained` or `legacy`.
    """

    name: str
    summary: str
    size_mb: int
    apt: Sequence[str] = ()
    builder: Literal["compiler", "tools"] = "compiler"
    find_links: str = ""
    aws_mb: int | None = None
    status: Literal["maintained", "legacy"] = "maintained"

    @property
    def requirements(self) -> str:
        """Requirement file of /opt/venv, relative to the repository."""
        return f"images/{self.name}.in"

    @property
    def lock(self) -> str:
        """The same with every package pinned by hash."""
        return f"images/{self.name}.txt"

    @property
    def framework(self) -> str:
        """`pytorch` of `pytorch-cpu`."""
        return self.name.partition("-")[0]

    @property
    def has_cuda(self) -> bool:
        """Whether the image is for GPUs: its wheels contain CUDA."""
        return self.name.endswith("-gpu")

    @property
    def budget_mb(self) -> float:
        """Size above which a test fails, in 10^6 bytes: five percent more, or 20 MB, by which bases differ."""
        return max(self.size_mb * 1.05, self.size_mb + 20)


def read_matrix(path: Path = MATRIX) -> dict[str, Image]:
    """Read every image, by name. Raises TypeError for a field that is unknown or missing."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: Image(name=name, **table) for name, table in tables.items()}


def tag_of(image: Image, environment: Mapping[str, str]) -> str:
    """Return the tag under which an image is built."""
    return f"{environment.get('TAG_PREFIX') or 'holdfast/'}{image.name}:{environment.get('TAG') or 'latest'}"


def build_command(image: Image, environment: Mapping[str, str]) -> list[str]:
    """Return the `docker build` command line for an image."""
    command = [environment.get("DOCKER") or "docker", "build", "--file", "images/Dockerfile"]
    command += ["--tag", tag_of(image, environment), "--network", environment.get("BUILD_NETWORK") or "host"]
    command += [f"--build-arg={name}={value}" for name, value in _build_arguments(image, environment).items()]
    # Without a value: Docker reads it from the environment, and a password in it is on no command line.
    command += [f"--build-arg={name}" for name in PROXIES if environment.get(name)]
    for secret, variable in (("ca", "CA_BUNDLE"), ("netrc", "NETRC")):
        file = environment.get(variable, "")
        if file and Path(file).is_file():
            command += ["--secret", f"id={secret},src={file}"]
    command += [
        f"--label=org.opencontainers.image.{name}={value}" for name, value in labels(image, environment).items()
    ]
    return [*command, *shlex.split(environment.get("BUILD_FLAGS", "")), "."]


def build(image: Image, environment: Mapping[str, str]) -> int:
    """Build an image; return the exit status of `docker build`."""
    # The classic builder of old engines knows no secrets and no cache mounts.
    with_buildkit = {**environment, "DOCKER_BUILDKIT": "1"}
    return subprocess.run(build_command(image, with_buildkit), cwd=ROOT, env=with_buildkit, check=False).returncode


def _build_arguments(image: Image, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the build arguments of the Dockerfile, without those that keep its default."""
    index = environment.get("INDEX_URL", "")
    arguments = {
        "LOCK": image.lock,
        "BUILDER": image.builder,
        "APT_PACKAGES": " ".join(image.apt),
        "BASE_IMAGE": environment.get("BASE_IMAGE", ""),
        "PIP_INDEX_URL": index,
        "UV_DEFAULT_INDEX": index,
        "UV_FIND_LINKS": (environment.get("UV_FIND_LINKS") or image.find_links) if image.find_links else "",
    }
    return {name: value for name, value in arguments.items() if value}


def labels(image: Image, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the labels that depend on the image, the base and the commit."""
    source = (ROOT / "toolkit" / "holdfast" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    found = {"description": image.summary, "version": version[1] if version else "unknown"}
    name, _, digest = (environment.get("BASE_IMAGE") or _pinned_base()).partition("@")
    found |= {"base.name": name} | ({"base.digest": digest} if digest else {})
    # A source archive has no history: no label is better than a wrong one.
    revision = _git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    if revision:
        found |= {"revision": revision, "created": _git("log", "-1", "--format=%cI")}
    return found


def _git(*arguments: str) -> str:
    """Return the output of a git command; empty outside of a repository."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def _pinned_base() -> str:
    """Return the base that the Dockerfile names, with its digest."""
    dockerfile = (ROOT / "images" / "Dockerfile").read_text(encoding="utf-8")
    pinned = re.search(r"^FROM (\S+) AS pinned_base$", dockerfile, re.MULTILINE)
    return pinned[1] if pinned else "unknown"


def main(arguments: list[str]) -> int:
    """Build the named image; return the exit status of `docker build`, or 64 for an unknown name."""
    images = read_matrix()
    lists = {
        "--list": list(images),
        "--list-cpu": [name for name, image in images.items() if not image.has_cuda],
        "--list-gpu": [name for name, image in images.items() if image.has_cuda],
    }
    if len(arguments) == 1 and arguments[0] in lists:
        print(*lists[arguments[0]], sep="\n")
        return 0
    if len(arguments) != 1 or arguments[0] not in images:
        print(f"usage: python -m images.build --list | {' | '.join(images)}", file=sys.stderr)
        return 64
    return build(images[arguments[0]], os.environ)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
