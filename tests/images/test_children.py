"""An image is derived with two lines: with a script, or with more packages."""

from __future__ import annotations

import contextlib
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import ImageNotFound
from images.build import Image
from tests.images.containers import Containers

pytestmark = pytest.mark.docker

# As in images/README.md, but for the bundle: the network of the tests may look into TLS.
LIGHTNING = """
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt pip install --no-cache-dir lightning
COPY train.py /opt/ml/code/
"""
SCRIPT = "COPY train.py /opt/ml/code/"
TRAIN = """
import holdfast, lightning, torch
from torch.utils.data import DataLoader, TensorDataset

class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
    def training_step(self, batch, number):
        inputs, targets = batch
        return torch.nn.functional.mse_loss(self.layer(inputs), targets)
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())

newest = holdfast.latest("*.ckpt")
print("begins at epoch", torch.load(newest, weights_only=False)["epoch"] + 1 if newest else 0)
inputs = torch.rand(64, 4)
keep = lightning.pytorch.callbacks.ModelCheckpoint(holdfast.checkpoint_dir(), save_top_k=-1)
trainer = lightning.Trainer(max_epochs=2 if newest is None else 3, callbacks=[keep], logger=False,
    enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
trainer.fit(Model(), DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True)), 16), ckpt_path=newest)
"""


class Child:
    """An image that is built from the one under test, and removed."""

    def __init__(self, image: str, folder: Path) -> None:
        self.image = image
        self.folder = folder
        self.tag = f"holdfast-test-child:{uuid.uuid4().hex}"

    def build(self, lines: str, script: str) -> str:
        """Return the tag of a child with more lines in its Dockerfile and train.py in its context."""
        (self.folder / "train.py").write_text(script)
        (self.folder / "Dockerfile").write_text(f"FROM {self.image}\n{lines}\n")
        command = [os.environ.get("DOCKER") or "docker", "build", "--quiet", "--network=host", f"--tag={self.tag}"]
        bundle = os.environ.get("CA_BUNDLE") or "/etc/ssl/certs/ca-certificates.crt"
        if Path(bundle).is_file():
            command += ["--secret", f"id=ca,src={bundle}"]
        environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
        built = subprocess.run([*command, str(self.folder)], env=environment, capture_output=True, text=True)
        assert built.returncode == 0, built.stderr
        return self.tag


@pytest.fixture
def child(engine: docker.DockerClient, image: str, containers: Containers, tmp_path: Path) -> Iterator[Child]:
    folder = tmp_path / "context"
    folder.mkdir()
    made = Child(image, folder)
    yield made
    containers.remove_all()
    with contextlib.suppress(ImageNotFound):
        engine.images.remove(made.tag)


def test_two_lines_make_a_training_image(child: Child, containers: Containers) -> None:
    tag = child.build(SCRIPT, "print('trained')")
    end = containers.run(image=tag, environment={"SAGEMAKER_PROGRAM": "train.py"})
    assert (end.code, end.out) == (0, "trained\n"), end.err


def test_lightning_is_one_more_line_and_its_checkpoints_are_resumed_from(
    child: Child, containers: Containers, row: Image, tmp_path: Path
) -> None:
    if row.framework != "pytorch":
        pytest.skip("an image with PyTorch is needed")
    tag = child.build(LIGHTNING, TRAIN)
    store = tmp_path / "store"
    store.mkdir()
    options = {
        "image": tag,
        "environment": {"CHECKPOINT_S3_URI": "file:///store", "SAGEMAKER_PROGRAM": "train.py"},
        "volumes": {str(store): {"bind": "/store", "mode": "rw"}},
    }
    first = containers.run(**options)
    assert (first.code, first.out.splitlines()[0]) == (0, "begins at epoch 0"), first.err
    second = containers.run(**options)
    assert (second.code, second.out.splitlines()[0]) == (0, "begins at epoch 2"), second.err
    assert len(list(store.glob("*.ckpt"))) == 3
