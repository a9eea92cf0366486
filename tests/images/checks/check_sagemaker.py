"""SageMaker's own toolkit in the framework images: its `train`, and the part of it that is compiled."""

from __future__ import annotations

import ctypes
import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import gethostname

TRAIN = "sagemaker_training.cli.train"


def train_is_a_command_on_the_path(folder: Path) -> None:
    """What SageMaker starts in an image that has no entrypoint."""
    assert shutil.which("train") == "/opt/venv/bin/train"


def everything_that_train_can_reach_is_importable(folder: Path) -> None:
    for name in ("cli.train", "trainer", "entry_point", "intermediate_output", "process", "mpi", "torch_distributed"):
        importlib.import_module(f"sagemaker_training.{name}")


def what_was_left_out_is_not_missed_on_the_way_to_a_script(folder: Path) -> None:
    program = f"import sys, {TRAIN}; print(*({{'gevent', 'scipy', 'werkzeug'}} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def the_compiled_part_loads(folder: Path) -> None:
    assert ctypes.CDLL(gethostname.__file__).gethostname
