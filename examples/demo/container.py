"""The demo with containers: PyTorch, interrupted by `docker stop` and by a spot notice, resumes both times.

    make demo-container

Everything is real but the cloud: a child image of two lines, an S3 server and an instance-metadata server on
loopback, and three containers that share nothing but the bucket. Ends with a table; not with 0 unless both resumes
happened and the model's archive is in the bucket and loads.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import sys
import tarfile
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.errors import DockerException
from docker.models.containers import Container
from examples.demo.attempt import Outcome
from examples.demo.imds import MetadataServer
from examples.demo.object_server import ObjectServer, serve_objects
from examples.demo.verdict import table

SCRIPT = Path(__file__).resolve().parent.parent / "train_pytorch.py"
IMAGE = os.environ.get("HOLDFAST_DEMO_IMAGE") or "holdfast/pytorch-cpu:latest"
DOCKERFILE = f"FROM {IMAGE}\nCOPY {SCRIPT.name} /opt/ml/code/\n"
EPOCHS = 24
COMMAND = ["python", SCRIPT.name, "--epochs", str(EPOCHS), "--pause", "0.3"]
EPOCHS_BEFORE_INTERRUPTION = 4
PATIENCE = 180
REPORT = "/tmp/holdfast-report.json"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one container did.

    Attributes:
        output: what the script and the supervisor printed.
        report: the supervisor's own account (HOLDFAST_REPORT_FILE).
    """

    output: str
    report: Mapping[str, Any]

    @property
    def epochs(self) -> list[int]:
        """The epochs that were completed here."""
        return [int(number) for number in re.findall(r"^epoch (\d+)/", self.output, re.MULTILINE)]

    @property
    def resumed_from(self) -> str | None:
        """The checkpoint that the script says it loaded."""
        found = re.search(r"^resumed from (\S+)$", self.output, re.MULTILINE)
        return found[1] if found else None

    @property
    def saved_last(self) -> str | None:
        """The checkpoint that the script wrote when it was interrupted."""
        found = re.search(r"^interrupted at step (\d+)$", self.output, re.MULTILINE)
        return f"step-{int(found[1]):06d}.pt" if found else None

    @property
    def outcome(self) -> Outcome:
        """Return the attempt as the table shows it, epochs as its rounds."""
        return Outcome(int(self.report["attempt"]), int(self.report["exit_code"]), self.epochs, self.report)


def main() -> int:
    try:
        engine = docker.from_env(timeout=PATIENCE)
        engine.ping()
    except DockerException as error:
        print(f"demo-container needs a Docker engine: {error}", file=sys.stderr)
        return 1
    with contextlib.closing(engine), child_image(engine) as image, serve_objects() as objects:
        with MetadataServer() as metadata:
            attempts = interrupted_twice(engine, image, objects, metadata)
        print(f"\n{table([attempt.outcome for attempt in attempts])}\n", flush=True)
        wrong = [*shortcomings(attempts), *archive_shortcomings(engine, image, objects)]
    for sentence in wrong:
        print(f"demo-container: {sentence}", file=sys.stderr)
    if not wrong:
        print("demo: both interruptions were survived; model.tar.gz is in the bucket and loads.")
    return 1 if wrong else 0


@contextlib.contextmanager
def child_image(engine: docker.DockerClient) -> Iterator[str]:
    """Build what a user would build, two lines and a script; removed at the end."""
    tag = f"holdfast-demo:{uuid.uuid4().hex[:12]}"
    print(f"demo: building {tag}:\n  " + DOCKERFILE.replace("\n", "\n  ").rstrip(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Dockerfile").write_text(DOCKERFILE)
        (Path(folder) / SCRIPT.name).write_bytes(SCRIPT.read_bytes())
        engine.images.build(path=folder, tag=tag, rm=True, forcerm=True)
    try:
        yield tag
    finally:
        engine.images.remove(tag)


def interrupted_twice(
    engine: docker.DockerClient, image: str, objects: ObjectServer, metadata: MetadataServer
) -> list[Attempt]:
    """Train in three containers, one after the other."""
    environment = {
        **objects.environment,
        "CHECKPOINT_S3_URI": f"s3://{objects.bucket}/spirals/checkpoints",
        "OUTPUT_S3_URI": f"s3://{objects.bucket}/spirals/output",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.endpoint,
        "HOLDFAST_REPORT_FILE": REPORT,
    }

    def run(ended_by: str, interrupt: Callable[[Container], object] | None) -> Attempt:
        print(f"\ndemo: a new container, to be ended by {ended_by}", flush=True)
        return train(engine, image, environment, interrupt)

    attempts = [run("docker stop", lambda container: container.stop(timeout=60))]
    attempts.append(run("a spot notice", lambda _: metadata.announce_spot(120)))
    metadata.withdraw()
    attempts.append(run("itself", None))
    return attempts


def train(
    engine: docker.DockerClient,
    image: str,
    environment: Mapping[str, str],
    interrupt: Callable[[Container], object] | None,
) -> Attempt:
    """Train in a fresh container without volumes; interrupt it after some epochs; remove it when it has ended."""
    container = engine.containers.run(image, COMMAND, detach=True, network_mode="host", environment=dict(environment))
    try:
        if interrupt is not None:
            wait_for_epochs(container, EPOCHS_BEFORE_INTERRUPTION)
            interrupt(container)
        container.wait(timeout=PATIENCE)
        output = container.logs().decode()
        print(output, end="", flush=True)
        return Attempt(output, json.loads(read_file(container, REPORT)))
    finally:
        container.remove(force=True)


def wait_for_epochs(container: Container, count: int) -> None:
    """Wait until so many epochs are done in this container.

    Raises:
        RuntimeError: it ended before, or it takes too long.
    """
    give_up = time.monotonic() + PATIENCE
    while len(re.findall(r"^epoch ", container.logs(stderr=False).decode(), re.MULTILINE)) < count:
        container.reload()
        if container.status == "exited" or time.monotonic() > give_up:
            raise RuntimeError(f"the training has not come to epoch {count}:\n{container.logs().decode()}")
        time.sleep(0.1)


def read_file(container: Container, path: str) -> bytes:
    """Return a file of a container, running or ended."""
    chunks, _ = container.get_archive(path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        content = tar.extractfile(Path(path).name)
        if content is None:
            raise FileNotFoundError(f"{path} is no file in the container")
        return content.read()


def shortcomings(attempts: list[Attempt]) -> list[str]:
    """Say what did not go as it should have."""
    wrong = []
    for attempt, code in zip(attempts, (143, 143, 0), strict=True):
        if attempt.report["exit_code"] != code:
            wrong.append(f"attempt {attempt.report['attempt']} ended with {attempt.report['exit_code']}, not {code}")
    if [attempt.report["notice"] for attempt in attempts] != ["signal", "spot", None]:
        wrong.append(f"the notices were {[attempt.report['notice'] for attempt in attempts]}")
    for before, after in itertools.pairwise(attempts):
        saved, loaded, told = before.saved_last, after.resumed_from, after.report["resumed_from"]
        if saved is None or not saved == loaded == told:
            wrong.append(f"saved on the interruption: {saved}; restored: {told}; loaded by the script: {loaded}")
    done = [epoch for attempt in attempts for epoch in attempt.epochs]
    if len(done) != len(set(done)) or done[-1:] != [EPOCHS]:
        wrong.append(f"epochs were repeated, or the last one is missing: {done}")
    return wrong


def archive_shortcomings(engine: docker.DockerClient, image: str, objects: ObjectServer) -> list[str]:
    """Load the model that is in the bucket, in a container of its own; say what is wrong with it."""
    key = "spirals/output/model.tar.gz"
    try:
        archive: bytes = objects.client.get_object(Bucket=objects.bucket, Key=key)["Body"].read()
    except objects.client.exceptions.NoSuchKey:
        return [f"s3://{objects.bucket}/{key} is not there"]
    program = "import torch; print(*torch.load('/opt/ml/model/model.pt', weights_only=True))"
    container = engine.containers.create(image, ["python", "-c", program], network_mode="none")
    try:
        container.put_archive("/opt/ml/model", archive)
        container.start()
        status = container.wait(timeout=PATIENCE)["StatusCode"]
        return [f"the model does not load:\n{container.logs().decode()}"] if status else []
    finally:
        container.remove(force=True)


if __name__ == "__main__":
    raise SystemExit(main())
