"""What CHECKPOINT_RESTORE decides: seconds to the script's first instruction, and bytes fetched before it.

    python -m benchmarks.restore_modes                 # 5 checkpoints of 200 MB, as fast as loopback is
    python -m benchmarks.restore_modes --rate 125      # through a link of 125 MB/s (1 Gbit/s)

All modes run in turn in the same run, on the same machine; the table has the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.server import Server, serve

FIRST = "import time; print(time.time())"
_PIECE = 1 << 16


class Link:
    """A relay on loopback that lets through so many bytes a second towards the client, over all connections.

    Args:
        target: host and port of the server.
        rate: bytes per second.
    """

    def __init__(self, target: tuple[str, int], rate: float) -> None:
        self._target = target
        self._rate = rate
        self._lock = threading.Lock()
        self._free_at = time.monotonic()
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client = self.listener.accept()[0]
            server = socket.create_connection(self._target)
            threading.Thread(target=self._copy, args=(client, server, 0.0), daemon=True).start()
            threading.Thread(target=self._copy, args=(server, client, 1 / self._rate), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, seconds_a_byte: float) -> None:
        try:
            while piece := source.recv(_PIECE):
                with self._lock:
                    now = time.monotonic()
                    self._free_at = max(self._free_at, now) + len(piece) * seconds_a_byte
                    wait = self._free_at - now
                if seconds_a_byte:
                    time.sleep(wait)
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            source.close()
            target.close()


@contextmanager
def reached(server: Server, megabytes_a_second: float | None) -> Iterator[Server]:
    """Give the server as it is reached through a link; as it is without a rate."""
    if megabytes_a_second is None:
        yield server
        return
    host = urlsplit(server.endpoint)
    link = Link((host.hostname or "", host.port or 0), megabytes_a_second * 1e6)
    yield replace(server, endpoint=f"http://127.0.0.1:{link.listener.getsockname()[1]}")


def life(server: Server, base: Path, *command: str, mode: str = "all") -> str:
    """Run a life of holdfast on the prefix of the benchmark, and return what its script prints."""
    variables = {
        "CHECKPOINT_S3_URI": "s3://bench/modes",
        "CHECKPOINT_RESTORE": mode,
        "HOLDFAST_REPORT_FILE": str(base / "report.json"),
        "SAGEMAKER_BASE_DIR": str(base),
    }
    line = [sys.executable, "-I", "-u", "-m", "holdfast_entrypoint", "run", "--", *command]
    environ = {**os.environ, **server.environ, **variables}
    return subprocess.run(line, env=environ, check=True, capture_output=True, text=True).stdout


def fill(server: Server, base: Path, count: int, megabytes: int) -> None:
    """Store checkpoints, an hour apart, with a life of holdfast that finds them on its disk."""
    for number in range(count):
        directory = base / f"checkpoints/checkpoint-{number + 1}"
        directory.mkdir(parents=True)
        (directory / "model.bin").write_bytes(random.randbytes(megabytes * 1_000_000))
        os.utime(directory / "model.bin", (1_790_000_000 + 3600 * number,) * 2)
    life(server, base, "true")


def measure(server: Server, mode: str) -> tuple[float, int]:
    """Return seconds to the script's first instruction, and bytes fetched by then."""
    with tempfile.TemporaryDirectory() as base:
        begin = time.time()
        first = float(life(server, Path(base), sys.executable, "-c", FIRST, mode=mode))
        report = json.loads((Path(base) / "report.json").read_text())
        return first - begin, report["bytes_restored"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--checkpoints", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=200, help="of each checkpoint (default 200)")
    parser.add_argument("--rate", type=float, help="megabytes per second towards the client (default: no limit)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as base, serve() as server, reached(server, options.rate) as way:
        fill(server, Path(base), options.checkpoints, options.megabytes)
        shutil.rmtree(Path(base) / "checkpoints")
        found: dict[str, list[tuple[float, int]]] = {"all": [], "latest": [], "none": []}
        for _ in range(options.runs):
            for mode, lives in found.items():
                lives.append(measure(way, mode))
    print("| `CHECKPOINT_RESTORE` | seconds to the first instruction | MB fetched before it |\n|---|---|---|")
    for mode, lives in found.items():
        seconds, fetched = (statistics.median(values) for values in zip(*lives, strict=True))
        print(f"| `{mode}` | {seconds:.2f} | {fetched / 1e6:,.0f} |")


if __name__ == "__main__":
    main()
