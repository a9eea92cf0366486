"""The images as SageMaker containers: `train` gives a script what SageMaker's own toolkit gives it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from images.build import Image
from tests.images.containers import Containers, Ended, ended, wait_for_line

pytestmark = pytest.mark.docker

CONFIG = {
    "hyperparameters.json": {"sagemaker_program": '"train.py"', "epochs": "3", "rate": "0.1", "name": '"x"'},
    "resourceconfig.json": {
        "current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0",
        "current_instance_type": "ml.m5.large", "current_group_name": "homogeneousCluster",
        "instance_groups": [
            {"instance_group_name": "homogeneousCluster", "instance_type": "ml.m5.large", "hosts": ["algo-1"]}
        ],
    },
    "inputdataconfig.json": {"train": {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated"}},
}  # fmt: skip
TELL = "import json, os, sys; print('told', json.dumps([sys.argv[1:], sys.executable, dict(os.environ)]))"


@pytest.fixture
def config(tmp_path: Path) -> dict[str, dict[str, str]]:
    """The volume with the files that SageMaker writes for a container."""
    for name, content in CONFIG.items():
        (tmp_path / name).write_text(json.dumps(content))
    return {str(tmp_path): {"bind": "/opt/ml/input/config", "mode": "rw"}}


@pytest.fixture
def with_toolkit(row: Image) -> None:
    if row.framework == "base":
        pytest.skip("base-cpu is without SageMaker's toolkit")


def told(end: Ended) -> tuple[list[str], str, dict[str, str]]:
    assert end.code == 0, end.err
    (line,) = (line for line in end.out.splitlines() if line.startswith("told "))
    arguments, executable, environment = json.loads(line.removeprefix("told "))
    return arguments, executable, environment


@pytest.mark.usefixtures("with_toolkit")
def test_our_train_and_sagemakers_give_a_script_the_same(
    containers: Containers, config: dict[str, dict[str, str]]
) -> None:
    files = {"train.py": TELL}
    ours = told(containers.run("train", files=files, volumes=config, hostname="algo-1"))
    theirs = told(containers.run("run", "--", "train", files=files, volumes=config, hostname="algo-1"))
    assert ours[:2] == theirs[:2] == (["--epochs", "3", "--name", "x", "--rate", "0.1"], "/opt/venv/bin/python")
    said = {name: value for name, value in ours[2].items() if name.startswith("SM_") and name in theirs[2]}
    assert len(said) > 15
    assert said == {name: theirs[2][name] for name in said}


@pytest.mark.usefixtures("with_toolkit")
def test_sagemakers_train_works_alone_as_in_an_image_without_our_entrypoint(
    containers: Containers, config: dict[str, dict[str, str]]
) -> None:
    end = containers.run(entrypoint=["train"], files={"train.py": TELL}, volumes=config, hostname="algo-1")
    assert told(end)[0] == ["--epochs", "3", "--name", "x", "--rate", "0.1"]


@pytest.mark.usefixtures("with_toolkit")
def test_a_script_behind_sagemakers_train_gets_the_stop_signal(
    containers: Containers, config: dict[str, dict[str, str]]
) -> None:
    """Alone, the toolkit passes no signal on."""
    script = """
import signal, sys, time
def heard(number, frame):
    print("heard", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, heard)
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""
    container = containers.start("run", "--", "train", files={"train.py": script}, volumes=config, hostname="algo-1")
    wait_for_line(container, "ready")
    container.stop(timeout=60)
    end = ended(container)
    assert "heard" in end.out.splitlines()
    assert end.code == 143
