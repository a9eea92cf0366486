"""The table of images, their locks, and the build command for each. No engine needed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from images.build import ROOT, Image, build_command, labels, main, read_matrix
from images.lock import main as lock
from images.table import README, pinned_framework, with_table

LOCKS = sorted([*ROOT.glob("images/*.txt"), *ROOT.glob("requirements/*.txt")])
CHECKS = ROOT / "tests/images/checks"
IMAGES = read_matrix()
each_image = pytest.mark.parametrize("image", IMAGES.values(), ids=lambda image: image.name)


@each_image
def test_every_image_has_requirements_a_lock_and_the_checks_of_its_framework(image: Image) -> None:
    assert re.fullmatch(r"[a-z0-9]+-(cpu|gpu)", image.name)
    assert (ROOT / image.requirements).is_file(), f"write {image.requirements}"
    assert (ROOT / image.lock).is_file(), f"make lock/{image.name}"
    checks = "python" if image.framework == "base" else image.framework
    assert (CHECKS / f"check_{checks}.py").is_file(), f"write {CHECKS}/check_{checks}.py"


def test_images_are_in_the_order_of_their_names_and_no_file_is_left_of_another() -> None:
    assert list(IMAGES) == sorted(IMAGES)
    assert {path.stem for path in ROOT.glob("images/*.in")} == {*IMAGES, "tools"}
    assert {path.stem for path in ROOT.glob("images/*.txt")} == {*IMAGES, "tools", "supervisor"}


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
    image = read_matrix()["base-cpu"]
    assert "BASE_IMAGE" not in " ".join(build_command(image, {}))
    dockerfile = (ROOT / "images/Dockerfile").read_text()
    pinned = re.search(r"^FROM (\S+)@(sha256:[0-9a-f]{64}) AS pinned_base$", dockerfile, re.MULTILINE)
    assert pinned is not None
    found = labels(image, {})
    assert (found["base.name"], found["base.digest"]) == pinned.groups()


def test_another_base_is_handed_to_the_build_and_named_in_a_label() -> None:
    image = read_matrix()["base-cpu"]
    assert "--build-arg=BASE_IMAGE=mine:1" in build_command(image, {"BASE_IMAGE": "mine:1"})
    found = labels(image, {"BASE_IMAGE": "mine:1"})
    assert found["base.name"] == "mine:1"
    assert "base.digest" not in found


@pytest.mark.parametrize(("secret", "variable"), [("ca", "CA_BUNDLE"), ("netrc", "NETRC")])
def test_a_file_with_a_secret_goes_in_as_a_secret_only_if_it_is_there(
    secret: str, variable: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    image = read_matrix()["base-cpu"]
    assert "--secret" not in build_command(image, {variable: str(file)})
    file.touch()
    assert f"id={secret},src={file}" in build_command(image, {variable: str(file)})


def test_a_private_index_is_handed_to_both_installers() -> None:
    command = build_command(read_matrix()["base-cpu"], {"INDEX_URL": "https://packages.example.com/simple/"})
    assert "--build-arg=PIP_INDEX_URL=https://packages.example.com/simple/" in command
    assert "--build-arg=UV_DEFAULT_INDEX=https://packages.example.com/simple/" in command


def test_a_proxy_is_named_on_the_command_line_and_its_password_is_not() -> None:
    command = build_command(read_matrix()["base-cpu"], {"https_proxy": "http://me:secret@proxy.example.com:3128"})
    assert "--build-arg=https_proxy" in command
    assert "secret@" not in " ".join(command)


def test_the_environments_page_of_wheels_wins_and_goes_only_where_one_is_used() -> None:
    image = Image("x", "", 1, find_links="https://example.com/wheels/")
    assert "--build-arg=UV_FIND_LINKS=https://example.com/wheels/" in build_command(image, {})
    assert "--build-arg=UV_FIND_LINKS=http://127.0.0.1:1/" in build_command(
        image, {"UV_FIND_LINKS": "http://127.0.0.1:1/"}
    )
    plain = Image("x", "", 1)
    assert "FIND_LINKS" not in " ".join(build_command(plain, {"UV_FIND_LINKS": "http://127.0.0.1:1/"}))


def test_the_lists_for_both_devices_are_the_family(capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for option in ("--list-cpu", "--list-gpu", "--list"):
        assert main([option]) == 0
        printed.append(capsys.readouterr().out.split())
    cpu, gpu, family = printed
    assert sorted(cpu + gpu) == sorted(family) == sorted(read_matrix())
    assert all(name.endswith("-gpu") for name in gpu)


def test_an_unknown_image_is_a_usage_error_that_names_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jax-cpu"]) == 64
    assert "pytorch-gpu" in capsys.readouterr().err
    assert lock(["jax-cpu"]) == 64
    assert "pytorch-gpu" in capsys.readouterr().err


def test_an_image_may_grow_by_five_percent_or_by_what_bases_differ_by() -> None:
    assert [Image("x", "", size).budget_mb for size in (100, 1000)] == [120, 1050]


@each_image
def test_every_framework_comes_with_sagemakers_toolkit_and_without_what_only_its_metadata_asks_for(
    image: Image,
) -> None:
    lock = (ROOT / image.lock).read_text()
    assert ("\nsagemaker-training==" in lock) == (image.framework != "base")
    assert "\ngevent==" not in lock
    assert "\nwerkzeug==" not in lock


@each_image
def test_the_requirements_pin_the_framework_and_the_lock_has_that_version(image: Image) -> None:
    framework = pinned_framework(image)
    assert (framework is None) == (image.framework == "base")
    assert framework is None or f"\n{'=='.join(framework)} " in (ROOT / image.lock).read_text()


@pytest.mark.parametrize("framework", sorted({image.framework for image in IMAGES.values()} - {"base"}))
def test_the_images_of_a_framework_have_one_version_of_it_for_both_devices(framework: str) -> None:
    """A checkpoint moves between CPUs and GPUs."""
    found = [pinned_framework(image) for image in IMAGES.values() if image.framework == framework]
    assert len({pin[1].partition("+")[0] for pin in found if pin}) == 1


def test_the_readme_shows_the_matrix_and_the_locks_as_they_are() -> None:
    readme = README.read_text()
    assert with_table(readme) == readme, "`make lock` writes the table"


def test_a_page_without_a_place_for_the_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="has no place"):
        with_table("# Images\n")
