"""Configuration: the environment and SageMaker's JSON files, read once, every problem reported together."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.attempts.rendezvous import Group
from holdfast.maintenance.retention import Retention
from holdfast.restore.plan import Mode
from holdfast.store.location import Location
from holdfast_entrypoint.config.platforms import Platform


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that is decided before anything happens.

    Attributes:
        base: the root of SageMaker's tree, /opt/ml.
        platform: where we run.
        managed: SageMaker itself restores and syncs; we only export, supervise and validate.
        location: where checkpoints live; None means: supervise only.
        checkpoints: the checkpoint directory.
        restore: how much of the newest snapshot is brought to the disk.
        outputs: where model and output archives go.
        retention: which snapshots are kept.
        upload_limit: bytes per second that uploads may take while the script runs undisturbed; None: no limit.
        grace: seconds between SIGTERM and SIGKILL here.
        stop_signal: what the script gets on a notice.
        metadata_endpoint: of the instance metadata service; None where there is none to ask.
        host_notice_file: a file that the host makes appear when the instance is reclaimed.
        report_file: where the report of this life goes.
        host: the name of this host.
        group: all hosts that train side by side on the prefix; None where there is one.
        hyperparameters, resources, channels: SageMaker's hyperparameters.json, resourceconfig.json,
            inputdataconfig.json.
        program: the Python file that `train` runs, from SAGEMAKER_PROGRAM or the hyperparameter.
        run_number: the platform's own count of attempts, where it tells one.
    """

    base: Path
    platform: Platform
    managed: bool
    location: Location | None
    checkpoints: Path
    restore: Mode
    outputs: Location | None
    retention: Retention
    upload_limit: float | None
    grace: float
    stop_signal: signal.Signals
    metadata_endpoint: str | None
    host_notice_file: Path | None
    report_file: Path | None
    host: str
    group: Group | None
    hyperparameters: Mapping[str, Any]
    resources: Mapping[str, Any]
    channels: Mapping[str, Any]
    program: str | None
    run_number: int

    @property
    def output_host(self) -> str | None:
        """Whose archives these are, where they must not be taken for those of the first host; None for that one."""
        return self.host if self.group is not None and self.host != self.group.hosts[0] else None

    @property
    def config_directory(self) -> Path:
        """Where SageMaker's JSON files are."""
        return self.base / "input/config"
