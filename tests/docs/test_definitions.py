"""The definitions in docs/running.md are what each platform takes, and do with exit codes what ours mean."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import botocore.session
import kubernetes_validate
import pytest
import yaml
from botocore.model import ListShape, MapShape, Shape, StringShape, StructureShape
from botocore.validate import ParamValidator
from cfnlint.api import lint
from examples.demo.imds import MetadataServer
from images.build import read_matrix
from tests.docs.pages import Block, blocks, each, the_block

from holdfast.notices.watcher import read_host_notice

AGAIN = ("143", "75")
NEVER_AGAIN = ("64", "65", "69", "70", "74")
KUBERNETES = "1.31"
"""The version in which podFailurePolicy became stable; the newest one is tried beside it."""
REQUESTS = [block for block in blocks("json") if "." in block.about]
REGISTRY_IMAGE = re.compile(r"123456789012\.dkr\.ecr\.eu-west-1\.amazonaws\.com/my-training:1\.4\.0")


def input_shape(request: str) -> StructureShape:
    service, _, operation = request.partition(".")
    shape = botocore.session.get_session().get_service_model(service).operation_model(operation).input_shape
    assert shape is not None
    return shape


def beyond_the_enumerations(value: Any, shape: Shape, where: str) -> list[str]:
    """Return the strings that are none of those that the API has for their place; botocore leaves it to the server."""
    if isinstance(shape, StructureShape):
        pairs = [(value[name], member, f"{where}.{name}") for name, member in shape.members.items() if name in value]
    elif isinstance(shape, ListShape):
        pairs = [(item, shape.member, where) for item in value]
    elif isinstance(shape, MapShape):
        pairs = [(item, shape.value, f"{where}.{name}") for name, item in value.items()]
    else:
        wrong = isinstance(shape, StringShape) and shape.enum and value not in shape.enum
        return [f"{where}: {value}"] if wrong else []
    return [problem for pair in pairs for problem in beyond_the_enumerations(*pair)]


def manifests() -> dict[str, dict[str, Any]]:
    return {manifest["kind"]: manifest for manifest in yaml.safe_load_all(the_block("kubernetes").text)}


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = manifests()["Job"]["spec"]["template"]["spec"]
    return spec


def grace_of(environment: list[dict[str, str]]) -> int | None:
    values = {entry["name"]: entry["value"] for entry in environment}
    return int(values["HOLDFAST_GRACE_SECONDS"]) if "HOLDFAST_GRACE_SECONDS" in values else None


@each(REQUESTS)
def test_a_request_is_one_that_the_api_takes(item: Block) -> None:
    request, shape = json.loads(item.text), input_shape(item.about)
    assert ParamValidator().validate(request, shape).generate_report() == ""
    assert beyond_the_enumerations(request, shape, item.about) == []


def test_every_platform_with_an_api_has_its_request() -> None:
    assert {block.about for block in REQUESTS} == {
        "batch.RegisterJobDefinition",
        "ec2.CreateLaunchTemplate",
        "ecs.RegisterTaskDefinition",
        "sagemaker.CreateTrainingJob",
    }


@each([block for block in REQUESTS if block.about.startswith("ecs.")])
def test_an_ecs_task_is_told_the_stop_time_that_ecs_gives_it(item: Block) -> None:
    (container,) = json.loads(item.text)["containerDefinitions"]
    assert container["stopTimeout"] == grace_of(container["environment"])
    assert container["stopTimeout"] <= 120, "what Fargate gives at most, and a spot notice anywhere"


def test_batch_retries_what_was_interrupted_and_nothing_that_needs_a_person() -> None:
    """As Batch does it: the first entry of which every condition matches decides; with none, the job is retried."""
    rules = json.loads(the_block("batch.RegisterJobDefinition").text)["retryStrategy"]["evaluateOnExit"]
    assert len(rules) <= 5, "more than Batch takes"

    def action(**happened: str) -> str:
        for rule in rules:
            conditions = {name: pattern for name, pattern in rule.items() if name != "action"}
            if all(fnmatchcase(happened.get(name, ""), pattern) for name, pattern in conditions.items()):
                return str(rule["action"])
        return "RETRY"

    left = {"onStatusReason": "Essential container in task exited"}
    assert {action(onExitCode=code, **left) for code in AGAIN} == {"RETRY"}
    assert {action(onExitCode=code, **left) for code in (*NEVER_AGAIN, "1", "137")} == {"EXIT"}
    assert action(onStatusReason="Host EC2 (instance i-0123456789abcdef0) terminated.") == "RETRY"
    assert action(onReason="CannotPullContainerError: not found", **left) == "EXIT"


@pytest.mark.parametrize("kind", ["ServiceAccount", "Job"])
def test_a_manifest_is_one_that_kubernetes_takes(kind: str) -> None:
    kubernetes_validate.validate(manifests()[kind], KUBERNETES, strict=True)
    kubernetes_validate.validate(manifests()[kind], kubernetes_validate.latest_version(), strict=True)


def test_kubernetes_retries_what_was_interrupted_and_nothing_that_needs_a_person() -> None:
    """As the Job controller does it: the first rule that matches decides; with none, the failure counts."""
    spec = manifests()["Job"]["spec"]

    def action(code: int, *conditions: str) -> str:
        for rule in spec["podFailurePolicy"]["rules"]:
            codes = rule.get("onExitCodes")
            wanted = [pattern["type"] for pattern in rule.get("onPodConditions", [])]
            if (codes and code in codes["values"]) or set(wanted) & set(conditions):
                return str(rule["action"])
        return "Count"

    assert {action(int(code)) for code in AGAIN} == {"Ignore"}
    assert {action(int(code)) for code in NEVER_AGAIN} == {"FailJob"}
    assert action(1) == "Count"
    assert action(137, "DisruptionTarget") == "Ignore"


def test_the_rules_of_the_job_are_those_that_the_api_server_takes() -> None:
    """What Kubernetes checks beyond its schema (pkg/apis/batch/validation)."""
    spec = manifests()["Job"]["spec"]
    (container,) = pod()["containers"]
    assert pod()["restartPolicy"] == "Never"
    assert spec["podReplacementPolicy"] == "Failed"
    for codes in (rule["onExitCodes"] for rule in spec["podFailurePolicy"]["rules"] if "onExitCodes" in rule):
        assert codes["values"] == sorted(set(codes["values"]))
        assert codes["containerName"] == container["name"]


def test_a_pod_is_told_the_stop_time_that_kubernetes_gives_it_and_mounts_what_it_has() -> None:
    (container,) = pod()["containers"]
    assert pod()["terminationGracePeriodSeconds"] == grace_of(container["env"])
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod()["volumes"]}
    assert pod()["serviceAccountName"] == manifests()["ServiceAccount"]["metadata"]["name"]


def test_the_policy_is_one_that_iam_takes_with_actions_that_s3_has() -> None:
    policy = {
        "Type": "AWS::IAM::ManagedPolicy",
        "Properties": {"PolicyDocument": json.loads(the_block("iam-policy").text)},
    }
    found = lint(json.dumps({"Resources": {"Policy": policy}}))
    assert [match.message for match in found] == []


def test_the_estimator_asks_for_the_job_that_the_request_describes_but_for_who_keeps_the_checkpoints() -> None:
    (page,) = (block for block in blocks("python") if "Estimator(" in block.text)
    (call,) = (
        node
        for node in ast.walk(ast.parse(page.text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Estimator"
    )
    estimator = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    request = json.loads(the_block("sagemaker.CreateTrainingJob").text)
    # Left: the SDK's words (version 2, estimator.py, Estimator.__init__); right: the API's for the same.
    assert estimator == {
        "image_uri": request["AlgorithmSpecification"]["TrainingImage"],
        "role": request["RoleArn"],
        "instance_count": request["ResourceConfig"]["InstanceCount"],
        "instance_type": request["ResourceConfig"]["InstanceType"],
        "environment": {"SAGEMAKER_PROGRAM": request["Environment"]["SAGEMAKER_PROGRAM"]},
        "output_path": request["OutputDataConfig"]["S3OutputPath"],
        "checkpoint_s3_uri": request["Environment"]["CHECKPOINT_S3_URI"],
        "use_spot_instances": request["EnableManagedSpotTraining"],
        "max_run": request["StoppingCondition"]["MaxRuntimeInSeconds"],
        "max_wait": request["StoppingCondition"]["MaxWaitTimeInSeconds"],
    }
    assert estimator["max_wait"] >= estimator["max_run"]
    assert "CheckpointConfig" not in request, "two writers on one prefix"


@each(
    [block for block in blocks() if re.search(r'[Ii]mage(_uri)?"?[:=]', block.text) and block.page == "docs/running.md"]
)
def test_every_definition_runs_the_readers_image(item: Block) -> None:
    named = re.findall(r'(?:TrainingImage|"image|image(?:_uri)?)"?[:=] *"?([^\s",]+)', item.text)
    assert named
    assert all(REGISTRY_IMAGE.fullmatch(image) for image in named)


def test_the_readers_image_is_built_from_one_of_ours() -> None:
    bases = [base for block in blocks("dockerfile") for base in re.findall(r"FROM holdfast/(\S+)", block.text)]
    assert bases
    assert set(bases) <= set(read_matrix())


def test_user_data_is_what_cloud_init_runs() -> None:
    script = the_block("user-data").text
    assert script.startswith("#!/bin/bash\n")
    assert len(script.encode()) < 16_384
    assert not re.search(r"AKIA|SECRET", script)


@pytest.mark.parametrize(
    ("code", "scaled_down"),
    [(0, True), (143, False), (75, False), *((int(code), True) for code in NEVER_AGAIN), (1, True)],
)
def test_user_data_asks_for_another_instance_only_after_an_interruption(
    code: int, scaled_down: bool, tmp_path: Path
) -> None:
    """The script as it stands; in the place of Docker and AWS two programs that write down how they were called."""
    calls = tmp_path / "calls"
    for name in ("aws", "docker"):
        status = code if name == "docker" else 0
        program = f'#!/bin/bash\necho "{name} $*" >> {calls}\n[ "$1" = login ] || exit {status}\n'
        (tmp_path / name).write_text(program)
        (tmp_path / name).chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["bash"], input=the_block("user-data").text, text=True, env=environ, check=True)
    assert "docker run" in calls.read_text()
    assert ("aws autoscaling set-desired-capacity" in calls.read_text()) is scaled_down


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl, as the host does")
def test_the_hosts_loop_drops_a_notice_that_holdfast_reads(tmp_path: Path) -> None:
    """The loop as it stands, on metadata of ours and in a directory of ours; it ends with its first notice."""
    script = the_block("host-notice").text
    with MetadataServer() as metadata:
        metadata.announce_spot(120)
        script = script.replace("http://169.254.169.254", metadata.endpoint).replace("/run/holdfast", str(tmp_path))
        subprocess.run(["bash"], input=f"{script}\nwait\n", text=True, check=True, timeout=60)
    notice = read_host_notice(tmp_path / "notice")
    assert notice is not None
    assert notice.action == "terminate"
    assert notice.deadline is not None
    assert notice.deadline > time.time()
