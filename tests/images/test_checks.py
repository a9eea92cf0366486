"""tests/images/checks, run inside the image by its own interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from images.build import Image
from tests.images.containers import Containers

pytestmark = pytest.mark.docker

CHECKS = Path(__file__).with_name("checks")
USERS: dict[str, dict[str, Any]] = {
    "as root": {},
    # exec: the checks of CUDA load a library from there.
    "as anybody, read-only and without a network": {
        "user": "1234:1234", "read_only": True, "tmpfs": {"/tmp": "exec"}, "network_mode": "none",
    },
}  # fmt: skip


def modules(row: Image) -> list[str]:
    """Return the checks of an image."""
    of_the_framework = [] if row.framework == "base" else ["check_sagemaker", f"check_{row.framework}"]
    return ["check_python", *of_the_framework, *(["check_cuda"] if row.has_cuda else [])]


@pytest.mark.parametrize("options", USERS.values(), ids=USERS)
def test_the_image_passes_its_own_checks(containers: Containers, row: Image, options: dict[str, Any]) -> None:
    volumes = {str(CHECKS): {"bind": "/checks", "mode": "ro"}}
    end = containers.run("run", "--", "python", "/checks", *modules(row), volumes=volumes, **options)
    print(end.out)
    assert end.code == 0, end.out + end.err
    assert all(f"passed {module} " in end.out for module in modules(row))


def test_a_check_that_fails_is_seen(containers: Containers, tmp_path: Path) -> None:
    (tmp_path / "check_wrong.py").write_text("def two_is_three(folder):\n    assert 2 == 3\n")
    volumes = {
        str(CHECKS): {"bind": "/checks", "mode": "ro"},
        str(tmp_path): {"bind": "/wrong", "mode": "ro"},
    }
    end = containers.run("python", "/checks", "check_wrong", volumes=volumes, environment={"PYTHONPATH": "/wrong"})
    assert (end.code, end.out) == (1, "FAILED check_wrong two_is_three\n")
