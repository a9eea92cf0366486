"""Write the lock files of the repository: requirement files pinned by hash, without the address of any index or page.

    python -m images.lock             all of them; keeps the pins that still hold
    python -m images.lock NAME...     those of these images
    python -m images.lock --upgrade   takes the newest versions (options go to `uv pip compile`)

Read from the environment: UV (`uv`), UV_FIND_LINKS (over the matrix's `find_links`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from images.build import ROOT, Image, read_matrix

# glibc 2.28: Debian 10, RHEL 8 and everything since.
IN_THE_IMAGE = ("--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28")
# Developers have several Pythons and machines: one file with markers for all of them.
ON_ANY_MACHINE = ("--universal", "--python-version", "3.11")
DEVELOP = tuple(word for group in ("demo", "container", "test", "images", "lint") for word in ("--group", group))


def compile_lock(target: str, *arguments: str, find_links: str = "", more: Sequence[str] = ()) -> None:
    """Write one lock file.

    Args:
        target: lock file, relative to the repository.
        arguments: requirements and platform, as arguments of `uv pip compile`.
        find_links: page or folder of wheels beside the registry; empty for none.
        more: further arguments of `uv pip compile`.

    Raises:
        subprocess.CalledProcessError: uv found no solution; its reason is on stderr.
    """
    environment = {**os.environ, "UV_CUSTOM_COMPILE_COMMAND": "make lock"}
    environment.pop("UV_FIND_LINKS", None)
    if find_links:
        environment["UV_FIND_LINKS"] = find_links
    command = [os.environ.get("UV") or "uv", "pip", "compile", "--quiet", "--generate-hashes"]
    command += ["--no-emit-index-url", "--no-emit-find-links", *arguments, *more, "--output-file", target]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


def main(arguments: list[str]) -> int:
    """Write the locks of the images that are named, or every lock; return 64 for a name that is no image."""
    images = read_matrix()
    names = [argument for argument in arguments if not argument.startswith("-")]
    options = [argument for argument in arguments if argument.startswith("-")]
    if not set(names) <= set(images):
        print(f"usage: python -m images.lock [{' | '.join(images)}]... [OPTION]...", file=sys.stderr)
        return 64
    if not names:
        _lock_project(options)
    for name in names or images:
        _lock_image(images[name], options)
    return 0


def _lock_project(options: Sequence[str]) -> None:
    """Write the locks of developers, builds and the supervisor."""
    compile_lock("requirements/dev.txt", "pyproject.toml", *DEVELOP, *ON_ANY_MACHINE, more=options)
    pins = ("--group", "demo", "--constraint", "requirements/dev.txt")
    compile_lock("requirements/demo.txt", "pyproject.toml", *pins, *ON_ANY_MACHINE, more=options)
    formats = ("--group", "demo", "--group", "test", "--group", "formats", "--constraint", "requirements/dev.txt")
    no_torch = ("--excludes", "requirements/formats.excludes")
    compile_lock("requirements/formats.txt", "pyproject.toml", *formats, *no_torch, *ON_ANY_MACHINE, more=options)
    peers = ("requirements/bench.in", "pyproject.toml")
    compile_lock("requirements/bench.txt", *peers, *ON_ANY_MACHINE, more=options)
    compile_lock("images/tools.txt", "images/tools.in", *IN_THE_IMAGE, more=options)
    compile_lock("images/supervisor.txt", "pyproject.toml", *IN_THE_IMAGE, more=options)


def _lock_image(image: Image, options: Sequence[str]) -> None:
    find_links = (os.environ.get("UV_FIND_LINKS") or image.find_links) if image.find_links else ""
    compile_lock(image.lock, image.requirements, *IN_THE_IMAGE, find_links=find_links, more=options)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
