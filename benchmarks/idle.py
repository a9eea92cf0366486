"""Idle: requests, CPU and memory of a supervisor with 10,000 stored files in its directory, while nothing changes.

    python -m benchmarks.idle --seconds 900

The directory is filled and stored first. What counts begins then: requests as the server counts them, CPU from the
scheduler's account of the supervisor's threads, with the instance metadata polled as on EC2. With so many files the
safety scan comes every few minutes (`SAFETY_SHARE` in `holdfast.watch.schedule`): measure several of them. The bar: no
LIST, at most 1 request a minute, at most 0.1 % of a core.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from examples.demo.imds import MetadataServer

from benchmarks.measure import cpu_seconds, memory
from benchmarks.server import serve
from holdfast.local import scan as disk
from holdfast.watch import schedule

_FILLS = """
import os, pathlib, sys, time
directory = pathlib.Path(os.environ["CHECKPOINT_LOCAL_PATH"])
for number in range(int(sys.argv[1])):
    path = directory / f"step-{number // 100}" / f"shard-{number % 100}.bin"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"%d" % number)
print("filled", flush=True)
time.sleep(100_000)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=300)
    options = parser.parse_args()
    with serve() as server, MetadataServer() as metadata, tempfile.TemporaryDirectory(prefix="bench-idle-") as base:
        server.request("PUT", "/bench")
        environ = {
            **os.environ, **server.environ, "CHECKPOINT_S3_URI": "s3://bench/idle", "SAGEMAKER_BASE_DIR": base,
            "AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.endpoint,
        }  # fmt: skip
        run = [sys.executable, "-I", "-u", "-m", "holdfast_entrypoint", "run", "--", sys.executable, "-c"]
        with subprocess.Popen([*run, _FILLS, str(options.files)], env=environ, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            while b"snapshot 000001" not in process.stderr.readline():
                pass
            time.sleep(15)  # the safety scan after the snapshot, and what is tidied
            script = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
            server.reset()
            before, begin = cpu_seconds(process.pid) - cpu_seconds(script), time.monotonic()
            time.sleep(options.seconds)
            share = (cpu_seconds(process.pid) - cpu_seconds(script) - before) / (time.monotonic() - begin)
            counted = server.counted()
            resident = memory(process.pid)[0]
            began = time.process_time()
            disk.scan(Path(base) / "checkpoints")
            scan = time.process_time() - began
            process.terminate()
    minutes = options.seconds / 60
    result = {
        "files": options.files,
        "seconds": options.seconds,
        "requests": dict(counted.requests),
        "requests_a_minute": round(counted.all_requests / minutes, 2),
        "percent_of_a_core": round(100 * share, 4),
        "resident_mib": round(resident, 1),
        "cpu_seconds_of_a_scan": round(scan, 4),
        "seconds_between_safety_scans": round(max(schedule.SAFETY_SCAN, scan / schedule.SAFETY_SHARE)),
        "reached": share <= 0.001 and counted.all_requests <= minutes and not counted.requests.get("ListObjectsV2"),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
