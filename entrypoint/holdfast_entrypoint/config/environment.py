"""The variables for the script, and the directories and JSON files of a SageMaker container."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast_entrypoint.config.settings import Config

OURS = frozenset({"HOLDFAST_RESUME", "HOLDFAST_ATTEMPT", "HOLDFAST_NOTICE_FILE", "SM_CHECKPOINT_DIR"})
"""Variables that describe one attempt. Those of an outer holdfast are not passed on."""


def variables(config: Config, *, attempt: int, resume: Path | None, notice_file: Path) -> dict[str, str]:
    """Return the variables to add to the script's environment.

    The names are those of sagemaker-training 5.1.4 (environment.py, Environment.to_env_vars), plus the checkpoint
    variables that it lacks.

    Args:
        config: configuration.
        attempt: number of the attempt, from 1.
        resume: newest complete checkpoint; None on a fresh start.
        notice_file: file that appears on a notice.
    """
    base = config.base
    resources = config.resources or _lone_host(config)
    arguments = user_arguments(config)
    own = {key: value for key, value in config.hyperparameters.items() if not key.startswith("sagemaker_")}
    environ = {
        "SM_CHECKPOINT_DIR": str(config.checkpoints),
        "CHECKPOINT_LOCAL_PATH": str(config.checkpoints),
        "HOLDFAST_ATTEMPT": str(attempt),
        "HOLDFAST_NOTICE_FILE": str(notice_file),
        "SM_MODEL_DIR": str(base / "model"),
        "SM_MODULE_DIR": str(base / "code"),
        "SM_INPUT_DIR": str(base / "input"),
        "SM_INPUT_CONFIG_DIR": str(config.config_directory),
        "SM_OUTPUT_DIR": str(base / "output"),
        "SM_OUTPUT_DATA_DIR": str(base / "output/data"),
        "SM_OUTPUT_INTERMEDIATE_DIR": str(base / "output/intermediate"),
        "SM_HPS": _variable(own),
        "SM_USER_ARGS": _variable(arguments),
        "SM_HOSTS": _variable(resources.get("hosts") or [config.host]),
        "SM_CURRENT_HOST": config.host,
        "SM_NETWORK_INTERFACE_NAME": str(resources.get("network_interface_name") or "eth0"),
        "SM_RESOURCE_CONFIG": _variable(resources),
        "SM_INPUT_DATA_CONFIG": _variable(config.channels),
        "SM_CHANNELS": _variable(sorted(config.channels)),
        "SM_NUM_CPUS": str(len(os.sched_getaffinity(0))),
        "SM_NUM_GPUS": str(_gpus()),
        "SM_LOG_LEVEL": str(config.hyperparameters.get("sagemaker_container_log_level", 20)),
    }
    if config.location is not None:
        environ["CHECKPOINT_S3_URI"] = str(config.location)
    if resume is not None:
        environ["HOLDFAST_RESUME"] = str(resume)
    if config.program is not None:
        environ["SM_USER_ENTRY_POINT"] = config.program
        environ["SM_MODULE_NAME"] = config.program.removesuffix(".py")
    environ |= {f"SM_CHANNEL_{name.upper()}": str(base / "input/data" / name) for name in config.channels}
    environ |= {f"SM_HP_{name.upper()}": _variable(value) for name, value in own.items()}
    return environ


def user_arguments(config: Config) -> list[str]:
    """Return the hyperparameters as the script's arguments: `--name value`, `-n value` for a name of one letter.

    Those that begin with `sagemaker_` are SageMaker's own and are left out.
    """
    arguments = []
    for name, value in sorted(config.hyperparameters.items()):
        if not name.startswith("sagemaker_"):
            arguments += [f"-{name}" if len(name) == 1 else f"--{name}", _argument(value)]
    return arguments


def _variable(value: object) -> str:
    """Return a value as sagemaker-training writes it into a variable (mapping.to_env_vars)."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))


def _argument(value: object) -> str:
    """Return a value as sagemaker-training writes it on a command line (mapping.to_cmd_args)."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in sorted(value.items()))
    return str(value)


def _lone_host(config: Config) -> dict[str, Any]:
    """Return the content of resourceconfig.json for a job on one host."""
    return {"current_host": config.host, "hosts": [config.host], "network_interface_name": "eth0"}


def _gpus() -> int:
    """Return the number of NVIDIA devices in the container, without asking a driver."""
    devices = Path("/dev")
    return sum(1 for device in devices.glob("nvidia[0-9]*") if device.name.removeprefix("nvidia").isdigit())


def make_tree(config: Config) -> None:
    """Create the directories of a SageMaker container, and the JSON files under input/config that are absent.

    Raises:
        OSError: a directory or file cannot be created.
    """
    for name in ("model", "output/data", "input/config", "code"):
        (config.base / name).mkdir(parents=True, exist_ok=True)
    contents: dict[str, Mapping[str, Any]] = {
        "hyperparameters.json": {},
        "resourceconfig.json": _lone_host(config),
        "inputdataconfig.json": {},
        "checkpointconfig.json": {"LocalPath": str(config.checkpoints)},
    }
    for name, content in contents.items():
        path = config.config_directory / name
        if not path.exists():
            path.write_text(json.dumps(content))
