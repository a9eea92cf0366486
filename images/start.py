"""Measures how long a container of an image takes from its start to the first line of a script.

    python -m images.start NAME [ROUNDS]   prints a line of the table in images/README.md

Four ways to the first line, in turns so that what else the machine does falls on all: the framework's bare interpreter;
holdfast without a store; holdfast with a store to restore from (empty, a directory); the bare interpreter and the
import of the framework. Read from the environment: TAG_PREFIX, TAG.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from typing import Any

import docker
from images.build import Image, read_matrix, tag_of

IMPORTS = {"mxnet": "mxnet", "pytorch": "torch", "tensorflow": "tensorflow", "xgboost": "xgboost"}
FIRST_LINE = "import time; print(time.time())"
QUIET = {"AWS_EC2_METADATA_DISABLED": "true"}


def ways(image: Image) -> dict[str, dict[str, Any]]:
    """Return how each way starts its container, as docker-py's `containers.create` takes it."""
    bare: dict[str, Any] = {"entrypoint": ["/opt/venv/bin/python"], "command": ["-c", FIRST_LINE]}
    ours: dict[str, Any] = {"command": ["run", "--", "python", "-c", FIRST_LINE], "environment": QUIET}
    found = {
        "bare": bare,
        "holdfast": ours,
        "with a store": {**ours, "environment": {**QUIET, "CHECKPOINT_S3_URI": "file:///tmp/store"}},
    }
    if image.framework in IMPORTS:
        found["import"] = {**bare, "command": ["-c", f"import {IMPORTS[image.framework]}; {FIRST_LINE}"]}
    return found


def seconds_to_the_first_line(engine: docker.DockerClient, tag: str, options: dict[str, Any]) -> float:
    """Start one container and return the seconds until its script printed the time; both clocks are this machine's."""
    container = engine.containers.create(tag, **options)
    try:
        began = time.time()
        container.start()
        container.wait()
        return float(container.logs(stderr=False).decode().split()[-1]) - began
    finally:
        container.remove(force=True)


def main(arguments: list[str]) -> int:
    """Measure, and print medians in milliseconds."""
    images = read_matrix()
    if not 1 <= len(arguments) <= 2 or arguments[0] not in images:
        print(f"usage: python -m images.start {' | '.join(images)} [ROUNDS]", file=sys.stderr)
        return 64
    image = images[arguments[0]]
    engine = docker.from_env()
    taken: dict[str, list[float]] = {way: [] for way in ways(image)}
    for _ in range(int(arguments[1]) if len(arguments) > 1 else 10):
        for way, options in ways(image).items():
            taken[way].append(seconds_to_the_first_line(engine, tag_of(image, os.environ), options))
    medians = [f"{way} {statistics.median(times) * 1000:.0f} ms" for way, times in taken.items()]
    print(f"{image.name}: {', '.join(medians)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
