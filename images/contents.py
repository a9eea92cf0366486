"""Compare two builds of an image file by file.

    python -m images.contents NAME    builds NAME twice without Docker's cache and compares every file

Compared are type, mode, owner, link target and SHA-256 of the content of every path. Times are not: they differ from
build to build, and nothing here depends on them (compiled files are never checked against their source). Read from the
environment: what images/build.py reads.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass

from images.build import build, read_matrix, tag_of


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of an image: kind as tar knows it, permissions, owner and group, link target, SHA-256 of the content."""

    kind: bytes
    mode: int
    owner: tuple[int, int]
    target: str
    digest: str


def read_contents(docker: str, tag: str) -> dict[str, Entry]:
    """Return every path of an image. The image is read as a stream, not kept in memory.

    Args:
        docker: command-line client.
        tag: tag of the image.

    Raises:
        subprocess.CalledProcessError: there is no such image, or the engine does not answer.
    """
    created = subprocess.run([docker, "create", tag], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    try:
        with subprocess.Popen([docker, "export", created], stdout=subprocess.PIPE) as export:
            with tarfile.open(fileobj=export.stdout, mode="r|") as tar:
                contents = {member.name: _entry(tar, member) for member in tar}
            status = export.wait()
    finally:
        subprocess.run([docker, "rm", created], stdout=subprocess.DEVNULL, check=True)
    if status:
        raise subprocess.CalledProcessError(status, [docker, "export"])
    return contents


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    digest = hashlib.sha256()
    if member.isreg() and (content := tar.extractfile(member)):
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    return Entry(member.type, member.mode, (member.uid, member.gid), member.linkname, digest.hexdigest())


def differing(one: dict[str, Entry], other: dict[str, Entry]) -> list[str]:
    """Return the paths that are in one image only, or differ."""
    return sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))


def main(arguments: list[str]) -> int:
    """Build twice and compare; return 1 if a file differs, and the status of the build if it fails."""
    images = read_matrix()
    if len(arguments) != 1 or arguments[0] not in images:
        print(f"usage: python -m images.contents {' | '.join(images)}", file=sys.stderr)
        return 64
    image = images[arguments[0]]
    docker = os.environ.get("DOCKER") or "docker"
    contents = []
    for tag in ("reproduced-1", "reproduced-2"):
        environment = {**os.environ, "TAG": tag, "BUILD_FLAGS": "--no-cache --quiet"}
        status = build(image, environment)
        if status:
            return status
        contents.append(read_contents(docker, tag_of(image, environment)))
        subprocess.run([docker, "image", "rm", tag_of(image, environment)], stdout=subprocess.DEVNULL, check=True)
    found = differing(contents[0], contents[1])
    print(*found, f"{image.name}: {len(found)} of {len(contents[0])} paths differ", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
