"""CHECKPOINT_RESTORE=latest under trainings that resume from their newest checkpoint and end with an older one."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.faults.conftest import Job, files_of
from tests.faults.proxy import Fault
from tests.formats.corpus import need
from tests.lifecycle.conftest import Start
from tests.lifecycle.supervised import Supervised, wait_until

from holdfast.snapshot import catalog
from holdfast.snapshot.record import Snapshot
from holdfast.snapshot.records import load_record

SCRIPTS = Path(__file__).parent / "best_at_end"
Begin = Callable[..., Supervised]


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """The checkpoint directory, which has the same path on every machine: frameworks note it in their checkpoints."""
    return tmp_path / "checkpoints"


@pytest.fixture
def begin(start: Start, job: Job, checkpoints: Path) -> Begin:
    def run(script: str, machine: str, **environ: str) -> Supervised:
        variables = job.environ(CHECKPOINT_LOCAL_PATH=str(checkpoints), CUDA_VISIBLE_DEVICES="", **environ)
        return start(sys.executable, SCRIPTS / script, machine=machine, environ=variables)

    return run


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    opened = threading.Event()
    yield opened
    opened.set()


def interrupt(run: Supervised, job: Job, checkpoints: Path) -> None:
    """Send SIGTERM when everything in the checkpoint directory has been committed."""
    files = [checkpoints / path for path in files_of(checkpoints)]
    times = {path.relative_to(checkpoints).as_posix(): path.stat().st_mtime_ns for path in files}
    wait_until(lambda: committed(job) == times, "what was written is committed")
    run.signal(signal.SIGTERM)
    assert run.exit_code() == 143, run.log


def committed(job: Job) -> dict[str, int]:
    """Return the files of the newest snapshot: path → modification time in nanoseconds."""
    store = job.past_the_proxy()
    names = catalog.read_catalog(store).snapshots
    snapshot = load_record(store, names[-1]) if names else None
    files = snapshot.files.values() if isinstance(snapshot, Snapshot) else ()
    return {entry.path: entry.mtime_ns for entry in files}


def finish(run: Supervised, gate: threading.Event) -> None:
    """Let the older checkpoints arrive, and then the training go on to its end."""
    gate.set()
    run.wait_for_log("older checkpoints: ")
    (run.machine / "go-on").touch()
    assert run.exit_code() == 0, run.log


def test_a_trainer_that_resumed_before_its_best_checkpoint_had_arrived_loads_it_at_the_end(
    begin: Begin, job: Job, checkpoints: Path, gate: threading.Event
) -> None:
    need(("torch", "transformers", "accelerate"))
    first = begin("trainer.py", "one")
    first.wait_for_output("waits in step 22")
    interrupt(first, job, checkpoints)
    assert {path.name for path in checkpoints.iterdir()} == {"checkpoint-10", "checkpoint-15", "checkpoint-20"}
    best = (checkpoints / "checkpoint-10/model.safetensors").read_bytes()
    assert best != (checkpoints / "checkpoint-20/model.safetensors").read_bytes()
    shutil.rmtree(checkpoints)

    job.proxy.always("GET .*checkpoint-1[05]/", Fault(first=gate.wait))
    second = begin("trainer.py", "two", CHECKPOINT_RESTORE="latest")
    second.wait_for_output("resumes from checkpoint-20 of checkpoint-20\n")
    second.wait_for_output("waits in step 22")
    finish(second, gate)
    assert "2 of 2 have arrived" in second.log
    assert (second.base / "model/model.safetensors").read_bytes() == best
    # What save_total_limit=3 leaves, the best among it; what arrived and was deleted since has left the store too.
    assert {path.partition("/")[0] for path in job.restored()} == {"checkpoint-10", "checkpoint-25", "checkpoint-30"}
    assert job.restored() == files_of(checkpoints)


def test_a_lightning_trainer_that_resumed_before_its_best_checkpoint_had_arrived_is_tested_with_it_at_the_end(
    begin: Begin, job: Job, checkpoints: Path, gate: threading.Event
) -> None:
    need(("torch", "pytorch_lightning"))
    best_name = "epoch=1-step=8.ckpt"
    first = begin("lightning.py", "one")
    first.wait_for_output("waits in epoch 3")
    assert {path.name for path in checkpoints.iterdir()} == {best_name, "epoch=2-step=12.ckpt", "last.ckpt"}
    best = (checkpoints / best_name).read_bytes()
    os.utime(checkpoints / best_name, (1_700_000_000, 1_700_000_000))  # epochs take minutes, not milliseconds
    interrupt(first, job, checkpoints)
    shutil.rmtree(checkpoints)

    job.proxy.always("GET .*epoch=1-", Fault(first=gate.wait))
    second = begin("lightning.py", "two", CHECKPOINT_RESTORE="latest")
    second.wait_for_output("resumes from last.ckpt of epoch=2-step=12.ckpt last.ckpt\n")
    second.wait_for_output("waits in epoch 3")
    finish(second, gate)
    assert "1 of 1 have arrived" in second.log
    assert (checkpoints / best_name).read_bytes() == best
    assert weights(second.base / "model/model.pt") == weights(checkpoints / best_name)
    assert weights(second.base / "model/model.pt") != weights(checkpoints / "last.ckpt")
    assert sorted(job.restored()) == [best_name, "epoch=4-step=20.ckpt", "last.ckpt"]


def weights(path: Path) -> dict[str, list[float]]:
    """Return the weights in a checkpoint of Lightning, or those alone."""
    import torch

    content = torch.load(path, weights_only=True)
    return {name: tensor.flatten().tolist() for name, tensor in content.get("state_dict", content).items()}
