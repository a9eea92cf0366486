"""The name of this host, and the group of hosts of a job that runs on several."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from holdfast.attempts.rendezvous import Group
from holdfast.snapshot import keys
from holdfast_entrypoint.config.platforms import Platform


def read(
    environ: Mapping[str, str], platform: Platform, resources: Mapping[str, Any], start: Mapping[str, Any]
) -> tuple[str, Group | None, list[str]]:
    """Return the name of this host, the group (None for a job on one host), and one sentence for each problem.

    HOLDFAST_HOSTS names the hosts; else AWS Batch does, else SageMaker.

    Args:
        environ: environment.
        platform: platform of this container.
        resources: content of SageMaker's resourceconfig.json.
        start: content of SageMaker's init-config.json.
    """
    nodes = environ.get("AWS_BATCH_JOB_NUM_NODES", "")
    if environ.get("HOLDFAST_HOSTS"):
        hosts = [name.strip() for name in environ["HOLDFAST_HOSTS"].split(",")]
        host = environ.get("HOLDFAST_HOST") or socket.gethostname()
    elif nodes.isdecimal() and int(nodes) > 1:
        hosts = [f"node-{number}" for number in range(int(nodes))]
        host = f"node-{environ.get('AWS_BATCH_JOB_NODE_INDEX', '')}"
    else:
        hosts = [str(name) for name in resources.get("hosts") or []]
        host = str(resources.get("current_host") or environ.get("HOLDFAST_HOST") or socket.gethostname())
    if len(hosts) < 2:
        return host, None, []
    return host, Group(tuple(hosts), _run(environ, platform, start)), _problems(host, hosts)


def run_number(start: Mapping[str, Any]) -> int:
    """Return SageMaker's count of the starts of this job; 1 where init-config.json has none."""
    run = start.get("jobRunInfo")
    number = run.get("jobRunNumber") if isinstance(run, dict) else None
    return number if isinstance(number, int) else 1


def _problems(host: str, hosts: list[str]) -> list[str]:
    problems = []
    if host not in hosts:
        problems.append(
            f"this host is called {host!r}, which is none of the hosts {', '.join(hosts)}: set HOLDFAST_HOST to its "
            "name in HOLDFAST_HOSTS"
        )
    if len(set(hosts)) < len(hosts) or not all(keys.is_host_name(name) for name in hosts):
        problems.append(
            "HOLDFAST_HOSTS must be different names of letters, digits, dots and dashes, at most 64 characters "
            f"each; it is {', '.join(hosts)!r}"
        )
    return problems


def _run(environ: Mapping[str, str], platform: Platform, start: Mapping[str, Any]) -> str | None:
    """Return an identifier that all hosts of one start have in common; None where the platform has none."""
    if environ.get("HOLDFAST_RUN"):
        return environ["HOLDFAST_RUN"]
    if platform is Platform.BATCH and environ.get("AWS_BATCH_JOB_ATTEMPT"):
        job = environ.get("AWS_BATCH_JOB_ID", "").partition("#")[0]
        return f"{job}/{environ['AWS_BATCH_JOB_ATTEMPT']}"
    if platform is Platform.SAGEMAKER and start:
        return f"{environ.get('TRAINING_JOB_ARN', '')}/{run_number(start)}"
    return None
