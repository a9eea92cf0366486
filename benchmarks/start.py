"""What the entrypoint costs: seconds to the script's first instruction.

    python -m benchmarks.start                       # on this machine
    python -m benchmarks.start --image holdfast/base-cpu   # in containers, against `docker run` of the bare interpreter

Both sides run in turn in the same run, on the same machine; quote the medians and the ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from examples.demo.object_server import serve_objects

FIRST_INSTRUCTION = "import time; print(time.time())"


class Side:
    """One way to start a script: on this machine or in a container, bare or under holdfast."""

    def __init__(self, name: str, image: str | None, environ: dict[str, str], *, bare: bool) -> None:
        self.name = name
        self.seconds: list[float] = []
        self._image = image
        self._environ = environ
        self._bare = bare

    def line(self, script: Sequence[str], base: str) -> tuple[list[str], dict[str, str]]:
        environ = {**self._environ, "AWS_EC2_METADATA_DISABLED": "true"}
        if self._image is None:
            supervisor = [] if self._bare else [sys.executable, "-I", "-u", "-m", "holdfast_entrypoint", "run", "--"]
            return [*supervisor, sys.executable, *script], {**os.environ, **environ, "SAGEMAKER_BASE_DIR": base}
        options = ["docker", "run", "--rm", "--network", "host"]
        for name, value in environ.items():
            options += ["-e", f"{name}={value}"]
        if self._bare:
            return [*options, "--entrypoint", "/opt/venv/bin/python", self._image, *script], dict(os.environ)
        return [*options, self._image, "python", *script], dict(os.environ)

    def time_once(self) -> None:
        with tempfile.TemporaryDirectory() as base:
            line, environ = self.line(["-c", FIRST_INSTRUCTION], base)
            begin = time.time()
            done = subprocess.run(line, env=environ, capture_output=True, text=True, check=True)
            self.seconds.append(float(done.stdout) - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", help="measure `docker run` of this image instead of processes")
    parser.add_argument("--runs", type=int, default=11)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with serve_objects("bench") as server:
        s3 = {**server.environment, "CHECKPOINT_S3_URI": "s3://bench/empty"}
        sides = [
            Side("bare interpreter", options.image, {}, bare=True),
            Side("holdfast, supervise only", options.image, {}, bare=False),
            Side("holdfast, empty S3 prefix", options.image, s3, bare=False),
        ]
        for number in range(options.runs + 1):
            for side in sides:
                side._environ = {
                    **side._environ,
                    **({"CHECKPOINT_S3_URI": f"s3://bench/{number}"} if "S3" in side.name else {}),
                }
                side.time_once()
        bare = statistics.median(sides[0].seconds[1:])
        for side in sides:
            middle = statistics.median(side.seconds[1:])  # the first warms the caches
            results[side.name] = {
                "median_seconds": round(middle, 3),
                "more_than_bare_ms": round(1000 * (middle - bare)),
                "ratio": round(middle / bare, 2),
            }
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
