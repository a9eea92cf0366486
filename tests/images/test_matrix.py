"""The table of images, the locks it names, and the build command that comes of it. No engine needed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from images.build import ROOT, Image, build_command, read_matrix

LOCKS = sorted([*ROOT.glob("images/*.txt"), *ROOT.glob("requirements/*.txt")])


def test_every_image_has_a_lock_and_what_it_was_made_of() -> None:
    for image in read_matrix().values():
        assert (ROOT / image.lock).is_file()
        assert (ROOT / image.lock).with_suffix(".in").is_file()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_locks_pin_every_package_by_hash_and_name_no_address(lock: Path) -> None:
    text = lock.read_text()
    pins = re.findall(r"^[a-zA-Z0-9._-]+.*$", text, re.MULTILINE)
    assert pins
    assert all(re.match(r"[a-z0-9._-]+==[^ ]+ (; .+ )?\\$", pin) for pin in pins)
    assert text.count("\\\n    --hash=sha256:") >= len(pins)
    assert "://" not in text
    assert "--index-url" not in text
    assert "--find-links" not in text


def test_the_wheel_is_built_with_the_same_tool_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (backend,) = project["build-system"]["requires"]
    assert backend in (ROOT / "images/tools.in").read_text().splitlines()


def test_supervisor_and_tests_run_the_same_versions() -> None:
    def pins(path: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9._-]+)==([^ ]+)", (ROOT / path).read_text(), re.MULTILINE))

    developed = pins("requirements/dev.txt")
    assert {name: developed.get(name) for name in pins("images/supervisor.txt")} == pins("images/supervisor.txt")


def test_default_base_is_left_to_the_dockerfile_which_pins_it_by_digest() -> None:
    assert "BASE_IMAGE" not in " ".join(build_command(read_matrix()["base-cpu"], {}))
    dockerfile = (ROOT / "images/Dockerfile").read_text()
    assert re.search(r"^FROM \S+@sha256:[0-9a-f]{64} AS pinned_base$", dockerfile, re.MULTILINE)


def test_another_base_is_handed_to_the_build() -> None:
    command = build_command(read_matrix()["base-cpu"], {"BASE_IMAGE": "mine:1"})
    assert "BASE_IMAGE=mine:1" in command


def test_a_ca_bundle_goes_in_as_a_secret_only_if_it_is_there(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.crt"
    image = read_matrix()["base-cpu"]
    assert "--secret" not in build_command(image, {"CA_BUNDLE": str(bundle)})
    bundle.touch()
    assert f"id=ca,src={bundle}" in build_command(image, {"CA_BUNDLE": str(bundle)})


def test_the_environments_page_of_wheels_wins_and_goes_only_where_one_is_used() -> None:
    image = Image("x", "", "images/x.txt", 1, find_links="https://example.com/wheels/")
    assert "UV_FIND_LINKS=https://example.com/wheels/" in build_command(image, {})
    assert "UV_FIND_LINKS=http://127.0.0.1:1/" in build_command(image, {"UV_FIND_LINKS": "http://127.0.0.1:1/"})
    plain = Image("x", "", "images/x.txt", 1)
    assert "FIND_LINKS" not in " ".join(build_command(plain, {"UV_FIND_LINKS": "http://127.0.0.1:1/"}))
