"""Names of checkpoints, of bookkeeping, and of traps."""

from pathlib import PurePosixPath

import pytest

from holdfast import names


@pytest.mark.parametrize(
    "path",
    [
        ".holdfast/commits/000001-000001.json",
        "model.pt.sagemaker-uploading",
        "deep/model.pt.sagemaker-uploaded",
        "model.sagemaker-ignore.pt",
        "dir.sagemaker-ignore/inside.pt",
    ],
)
def test_bookkeeping_is_neither_uploaded_nor_restored(path: str) -> None:
    assert names.is_bookkeeping(PurePosixPath(path))


@pytest.mark.parametrize("path", ["model.pt", "deep/.holdfast/x", ".hidden", "sagemaker-uploading/x"])
def test_everything_else_is_the_users(path: str) -> None:
    assert not names.is_bookkeeping(PurePosixPath(path))


@pytest.mark.parametrize(
    "name", ["a.tmp", "tmp-checkpoint-500", "x.partial", "x.incomplete", "x.orbax-checkpoint-tmp-1", "x~"]
)
def test_unfinished_names_are_known(name: str) -> None:
    assert names.looks_unfinished(name)


@pytest.mark.parametrize(
    "name",
    ["template.pt", "checkpoint-500", "tempest", "part1.pt", "attempt-2", "epoch-temp-0.7.pt", "model-part-1.pt"],
)
def test_finished_names_are_not_mistaken(name: str) -> None:
    assert not names.looks_unfinished(name)


def test_numbers_in_names_are_compared_as_numbers() -> None:
    assert sorted(["e-10", "e-9", "e-1", "e"], key=names.natural_order) == ["e", "e-1", "e-9", "e-10"]


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", "a\0b", "x" * 256, "a/\udcff"]
)
def test_paths_that_would_leave_the_directory_or_cannot_exist_are_unsafe(path: str) -> None:
    assert names.unsafe_reason(path)


@pytest.mark.parametrize("path", ["a", "a/b c/ü.pt", "...", "a\nb", "x" * 255, "C:\\x"])
def test_odd_but_harmless_paths_are_safe(path: str) -> None:
    assert names.unsafe_reason(path) is None
