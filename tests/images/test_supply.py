"""The bill of materials of an image, and the comparison of two builds."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from images.build import ROOT, Image
from images.contents import differing, read_contents
from images.sbom import main as write_sbom
from packageurl import PackageURL

pytestmark = pytest.mark.docker

CLIENT = os.environ.get("DOCKER") or "docker"


@pytest.fixture
def bill(row: Image, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    repository, _, tag = image.rpartition(":")
    monkeypatch.setenv("TAG_PREFIX", repository.removesuffix(row.name))
    monkeypatch.setenv("TAG", tag)
    assert write_sbom([row.name, str(tmp_path / "bill.json")]) == 0
    return (tmp_path / "bill.json").read_text()


def test_the_bill_of_materials_is_valid_and_names_the_packages_of_the_locks_and_of_debian(
    bill: str, row: Image
) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
    found = {component["purl"] for component in json.loads(bill)["components"]}
    for lock in (row.lock, "images/supervisor.txt"):
        for name, version in re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", (ROOT / lock).read_text(), re.MULTILINE):
            assert PackageURL("pypi", None, name, version).to_string() in found
    for package in ("libc6", "ca-certificates", *row.apt):
        assert any(purl.startswith(f"pkg:deb/debian/{package}@") for purl in found)


@pytest.fixture
def three_builds(engine: docker.DockerClient, image: str, tmp_path: Path) -> Iterator[list[str]]:
    """Children of the image under test: two that differ in the time of a file, and one with another content."""
    tags = []
    for number, (time, content) in enumerate(((1, "same"), (2, "same"), (1, "other"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "file").write_text(content)
        os.utime(folder / "file", (time, time))
        (folder / "Dockerfile").write_text(f"FROM {image}\nCOPY file /opt/ml/code/\n")
        tags.append(f"holdfast-test-contents:{uuid.uuid4().hex}")
        engine.images.build(path=str(folder), tag=tags[-1], rm=True, forcerm=True)
    yield tags
    for tag in tags:
        engine.images.remove(tag)


def test_images_are_compared_by_content_and_not_by_time(three_builds: list[str]) -> None:
    first, second, other = (read_contents(CLIENT, tag) for tag in three_builds)
    assert differing(first, second) == []
    assert differing(first, other) == ["opt/ml/code/file"]
