"""Platforms, and the seconds that each leaves between SIGTERM and SIGKILL."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path


class Platform(StrEnum):
    """A platform that runs containers."""

    SAGEMAKER = "sagemaker"
    BATCH = "batch"
    ECS = "ecs"
    KUBERNETES = "kubernetes"
    EC2 = "ec2"
    LOCAL = "local"


GRACE_SECONDS: Mapping[Platform, float] = {
    Platform.SAGEMAKER: 120.0,  # StopTrainingJob: docker stop -t 120
    Platform.BATCH: 30.0,  # job timeout and TerminateJob
    Platform.ECS: 30.0,  # stopTimeout, Fargate and EC2
    Platform.KUBERNETES: 30.0,  # terminationGracePeriodSeconds
    Platform.EC2: 10.0,  # docker stop, and dockerd at host shutdown
    Platform.LOCAL: 10.0,  # docker stop
}
"""Default seconds between SIGTERM and SIGKILL."""


def detect(environ: Mapping[str, str], dmi: Path = Path("/sys/class/dmi/id/sys_vendor")) -> Platform:
    """Return the platform, by the variables that platforms set.

    The order matters: ECS's variables are also set on SageMaker and on Batch.

    Args:
        environ: environment.
        dmi: file in which the kernel names the manufacturer of the machine.
    """
    marks = (
        ("TRAINING_JOB_ARN", Platform.SAGEMAKER),
        ("AWS_BATCH_JOB_ID", Platform.BATCH),
        ("ECS_CONTAINER_METADATA_URI_V4", Platform.ECS),
        ("ECS_CONTAINER_METADATA_URI", Platform.ECS),
        ("KUBERNETES_SERVICE_HOST", Platform.KUBERNETES),
    )
    for variable, platform in marks:
        if environ.get(variable):
            return platform
    try:
        vendor = dmi.read_text()
    except OSError:
        return Platform.LOCAL
    return Platform.EC2 if "Amazon EC2" in vendor else Platform.LOCAL
