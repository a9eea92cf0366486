"""Packages that a start imports, as `-X importtime` reports them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from examples.demo.object_server import ObjectServer

CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def imported_packages(directory: Path, **environ: str) -> set[str]:
    """Return the top-level packages that a `holdfast run -- true` has imported."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CHECKPOINT"))}
    ours = {"SAGEMAKER_BASE_DIR": str(directory / "ml"), "AWS_EC2_METADATA_DISABLED": "true"}
    done = subprocess.run(
        [sys.executable, "-I", "-X", "importtime", "-m", "holdfast_entrypoint", "run", "--", "true"],
        env={**inherited, **ours, **environ}, cwd=directory, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return set(re.findall(r"^import time: [^|]+\|[^|]+\|\s+(\w+)", done.stderr, re.MULTILINE))


def test_a_start_with_a_profile_imports_botocore_and_never_boto3(s3_server: ObjectServer, tmp_path: Path) -> None:
    given = dict(s3_server.environment)
    lines = [f"{name.lower()} = {given.pop(name)}\n" for name in CREDENTIALS]
    (tmp_path / "credentials").write_text("[default]\n" + "".join(lines))
    found = imported_packages(
        tmp_path,
        **given,
        AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "credentials"),
        CHECKPOINT_S3_URI=f"s3://{s3_server.bucket}/imports-with-a-profile",
    )
    assert {"botocore", "urllib3", "awscrt"} <= found
    assert not found & {"boto3", "s3transfer"}


def test_a_start_with_keys_in_variables_imports_neither(s3_server: ObjectServer, tmp_path: Path) -> None:
    uri = f"s3://{s3_server.bucket}/imports-with-keys"
    found = imported_packages(tmp_path, **s3_server.environment, CHECKPOINT_S3_URI=uri)
    assert {"urllib3", "awscrt"} <= found
    assert not found & {"boto3", "botocore", "s3transfer"}
