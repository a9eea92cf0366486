"""Config: the configuration of one container, parsed once."""

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


@dataclass(kw_only=True, frozen=True, slots=True)
class Config:
    """Configuration of one container, from the environment and SageMaker's JSON files.

    Attributes:
        base: root of SageMaker's tree (default /opt/ml).
        platform: platform of this container.
        managed: whether SageMaker restores and stores the checkpoints itself.
        location: store of the checkpoints; None: checkpoints are not stored.
        checkpoints: checkpoint directory.
        restore: checkpoints of the newest snapshot to restore.
        outputs: store of the model and output archives; None: none.
        retention: snapshots to keep.
        upload_limit: bytes per second for uploads while the script runs; None: no limit.
        grace: seconds between SIGTERM and SIGKILL.
        stop_signal: signal that stops the script.
        metadata_endpoint: URL of the instance metadata service; None: it is not asked.
        host_notice_file: file that the host creates when the instance is reclaimed.
        report_file: file for the report.
        host: name of this host.
        group: all hosts of the job; None where it runs on one.
        hyperparameters, resources, channels: SageMaker's hyperparameters.json, resourceconfig.json,
            inputdataconfig.json.
        program: Python file that `train` runs.
        run_number: the platform's count of attempts (1 where it has none).
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
        """Host name for the names of the output archives; None on the first host."""
        return self.host if self.group is not None and self.host != self.group.hosts[0] else None

    @property
    def config_directory(self) -> Path:
        """Directory of SageMaker's JSON files."""
        return self.base / "input/config"
