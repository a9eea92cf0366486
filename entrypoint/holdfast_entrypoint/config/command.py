"""The command to run: SageMaker's `train`, or the one on the command line."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import ConfigError
from holdfast_entrypoint.config import environment
from holdfast_entrypoint.config.settings import Config


@dataclass(frozen=True, slots=True)
class Command:
    """The script's command, and its working directory (None: this one)."""

    arguments: Sequence[str]
    directory: Path | None


def train(config: Config, environ: Mapping[str, str]) -> Command:
    """Return the command for `train`: a Python file under /opt/ml/code, with the hyperparameters as arguments.

    Raises:
        ConfigError: no program is named, or it does not exist.
    """
    code = config.base / "code"
    if config.program is None:
        raise ConfigError(
            "train: no program is named; set SAGEMAKER_PROGRAM (or the hyperparameter sagemaker_program) "
            f"to a Python file under {code}, or give a command: `run -- python train.py`"
        )
    program = Path(os.path.normpath(code / config.program))
    if not program.is_relative_to(code):
        raise ConfigError(f"train: SAGEMAKER_PROGRAM {config.program!r} must be a file under {code}")
    if program.suffix != ".py":
        raise ConfigError(f"train: SAGEMAKER_PROGRAM {config.program!r} must be a Python file (*.py)")
    if not program.is_file():
        raise ConfigError(f"train: file not found: {program}; COPY or mount your code to {code}")
    arguments = [_interpreter(environ), str(program.relative_to(code)), *environment.user_arguments(config)]
    return Command(arguments, code)


def _interpreter(environ: Mapping[str, str]) -> str:
    """Return the Python on PATH: in the images /opt/venv's, not the supervisor's."""
    path = environ.get("PATH")
    return shutil.which("python", path=path) or shutil.which("python3", path=path) or sys.executable
