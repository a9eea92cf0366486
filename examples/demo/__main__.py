"""The main job of holdfast on one machine: train, be interrupted by a spot notice, resume elsewhere, finish.

    python -m examples.demo

Real processes and real sockets, and neither Docker nor AWS: an S3 server and an instance-metadata server on loopback.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import xgboost
from examples.demo.attempt import Attempt, AttemptError, Outcome, clean_environment
from examples.demo.imds import MetadataServer
from examples.demo.object_server import ObjectServer, serve_objects
from examples.demo.verdict import problems, table

PROGRAM = Path(__file__).parents[1] / "train_xgboost.py"
ROUNDS = 40
NOTICE_AFTER_ROUND = 12
# One thread: sums of floating-point numbers in another order would not be the same model, byte for byte.
HYPERPARAMETERS = {"num-round": ROUNDS, "checkpoint-every": 5, "max-depth": 4, "eta": 0.2, "threads": 1}
ROUND_SECONDS = 0.25
LEAD_SECONDS = 120
PREFIX = "digits"
_START_SECONDS = 120.0
_END_SECONDS = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keep", action="store_true", help="keep the directory with what the attempts left")
    keep = parser.parse_args().keep
    # A SIGTERM unwinds as Ctrl-C does, so that no process stays behind.
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit(128 + signal.SIGTERM))
    environ = clean_environment()
    os.environ.clear()
    os.environ.update(environ)
    try:
        with work_directory(keep=keep) as work, serve_objects() as objects, MetadataServer() as metadata:
            play(work, objects, metadata, environ)
    except (AttemptError, RuntimeError, subprocess.CalledProcessError) as error:
        sys.exit(f"demo: FAILED: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


@contextmanager
def work_directory(*, keep: bool) -> Iterator[Path]:
    """Make a temporary directory, and say at the end where it is or remove it."""
    work = Path(tempfile.mkdtemp(prefix="holdfast-demo-"))
    try:
        yield work
    finally:
        if keep:
            say(f"what is left of the attempts is in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)


def play(work: Path, objects: ObjectServer, metadata: MetadataServer, environ: Mapping[str, str]) -> None:
    """Run both attempts and judge them.

    Raises:
        AttemptError: one of them, or the model, is not as it should be.
    """
    environ = {
        **environ,
        **objects.environment,
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.endpoint,
        "CHECKPOINT_S3_URI": f"s3://{objects.bucket}/{PREFIX}/checkpoints",
        "OUTPUT_S3_URI": f"s3://{objects.bucket}/{PREFIX}/output",
    }
    say(f"S3 is at {objects.endpoint}, instance metadata at {metadata.endpoint}")

    say("attempt 1 on a new machine; the bucket is empty")
    machine = work / "machine-1"
    with start(1, machine, work, environ) as attempt:
        attempt.wait_until(lambda: is_underway(attempt, objects), _START_SECONDS, "two snapshots in the bucket")
        say(f"EC2 announces that this spot instance goes away in {LEAD_SECONDS} s")
        metadata.announce_spot(LEAD_SECONDS)
        first = attempt.outcome(_END_SECONDS)
    metadata.withdraw()
    shutil.rmtree(machine)
    say("the machine is gone, and everything on it")

    say("attempt 2 on a new machine; the same command, the same variables")
    with start(2, work / "machine-2", work, environ) as attempt:
        second = attempt.outcome(_START_SECONDS + _END_SECONDS)
    judge(work, objects, first, second)


def start(number: int, machine: Path, work: Path, environ: Mapping[str, str]) -> Attempt:
    return Attempt(
        number,
        machine=machine,
        program=PROGRAM,
        hyperparameters={**HYPERPARAMETERS, "round-seconds": ROUND_SECONDS},
        environ=environ,
        report=work / f"attempt-{number}.json",
    )


def is_underway(attempt: Attempt, objects: ObjectServer) -> bool:
    """Say whether some rounds are trained and two snapshots are committed."""
    if len(attempt.rounds()) < NOTICE_AFTER_ROUND:
        return False
    records = objects.client.list_objects_v2(
        Bucket=objects.bucket, Prefix=f"{PREFIX}/checkpoints/.holdfast/commits/"
    ).get("Contents", [])
    return len(records) >= 2


def judge(work: Path, objects: ObjectServer, first: Outcome, second: Outcome) -> None:
    """Print the table.

    Raises:
        AttemptError: the second attempt did not resume, or its model is not the one that it should be.
    """
    found = problems(first, second, rounds=ROUNDS)
    print(f"\n{table([first, second])}\n", flush=True)
    if found:
        raise AttemptError("; ".join(found))
    model = stored_model(work, objects)
    if model != uninterrupted_model(work):
        raise AttemptError("the model in the bucket is not the one of a run that is not interrupted")
    say(f"model.tar.gz is in the bucket: {ROUNDS} rounds, none lost and none trained twice, and the model is the same,")
    say("byte for byte, as that of a run without holdfast that is not interrupted")


def stored_model(work: Path, objects: ObjectServer) -> bytes:
    """Fetch model.tar.gz and prove that xgboost can load what is in it.

    Raises:
        AttemptError: it is not there, or does not hold the whole model.
    """
    key = f"{PREFIX}/output/model.tar.gz"
    try:
        archive = objects.client.get_object(Bucket=objects.bucket, Key=key)["Body"].read()
    except objects.client.exceptions.NoSuchKey as error:
        raise AttemptError(f"s3://{objects.bucket}/{key} is not there") from error
    folder = work / "model"
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
        trained = xgboost.Booster(model_file=folder / "model.ubj").num_boosted_rounds()
    except (tarfile.TarError, xgboost.core.XGBoostError) as error:
        raise AttemptError(f"the model in s3://{objects.bucket}/{key} cannot be loaded: {error}") from error
    if trained != ROUNDS:
        raise AttemptError(f"the model in the bucket has {trained} rounds instead of {ROUNDS}")
    return (folder / "model.ubj").read_bytes()


def uninterrupted_model(work: Path) -> bytes:
    """Run the same script by itself, without holdfast and without a pause, and return its model."""
    arguments = [text for name, value in HYPERPARAMETERS.items() for text in (f"--{name}", str(value))]
    directory = work / "uninterrupted"
    environ = {**os.environ, "SM_CHECKPOINT_DIR": str(directory / "checkpoints"), "SM_MODEL_DIR": str(directory)}
    subprocess.run([sys.executable, PROGRAM, *arguments], env=environ, check=True, stdout=subprocess.DEVNULL)
    return (directory / "model.ubj").read_bytes()


def say(sentence: str) -> None:
    print(f"demo: {sentence}", flush=True)


if __name__ == "__main__":
    main()
