"""The whole benchmark on small files, in its own environment (`make test-bench`): everybody takes part, all arrives."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-bench/bin/python"
REQUIRED = bool(os.environ.get("HOLDFAST_REQUIRE_BENCH"))


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    if not PYTHON.exists() and not REQUIRED:
        pytest.skip("no .venv-bench: `make bench-tools` makes it")
    folder = tmp_path_factory.mktemp("bench")
    results, page = folder / "results.json", folder / "page.md"
    options = ["--size", "small", "--json", str(results), "--markdown", str(page), "--work", str(folder)]
    done = subprocess.run([PYTHON, "-m", "benchmarks", *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| holdfast | holdfast |" in page.read_text()
    found: list[dict[str, Any]] = json.loads(results.read_text())["compared"]
    return found


def who(one: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = one["contestants"]
    return found


# Over TLS it can be told no certificate to trust; without PyTorch, which is in no lock, it cannot be imported.
EXCUSED = {"s3_torch_connector"}


@pytest.mark.timeout(600)
def test_everybody_takes_part_and_all_that_they_move_arrives(compared: list[dict[str, Any]]) -> None:
    problems = {
        (one["workload"], one["tls"], name): entry["problem"]
        for one in compared
        for name, entry in who(one).items()
        if entry["problem"] and name not in EXCUSED
    }
    assert problems == {}


def test_every_workload_is_there_over_http_and_the_largest_over_tls_too(compared: list[dict[str, Any]]) -> None:
    assert [one["workload"] for one in compared if not one["tls"]] == [
        "large", "shards", "many", "huggingface", "rewrite", "lora", "lora-one-file", "unchanged",
    ]  # fmt: skip
    assert "large" in [one["workload"] for one in compared if one["tls"]]


def test_what_was_stored_went_over_the_wire_once(compared: list[dict[str, Any]]) -> None:
    for one in compared:
        for run in who(one)["holdfast"]["runs"]:
            if run["step"] in ("up", "first"):
                assert one["bytes"] <= run["received"] < one["bytes"] * 1.01 + (1 << 20)
            if run["step"] == "down":
                assert one["bytes"] <= run["sent"] < one["bytes"] * 1.01 + (1 << 20)


def test_what_has_not_changed_is_not_sent_again(compared: list[dict[str, Any]]) -> None:
    (unchanged,) = (one for one in compared if one["workload"] == "unchanged")
    (again,) = (run for run in who(unchanged)["holdfast"]["runs"] if run["step"] == "again")
    assert "UploadPart" not in again["requests"]
    assert again["received"] < 64 << 10


def test_every_figure_has_its_bar(compared: list[dict[str, Any]]) -> None:
    for one in compared:
        for step, bars in one["bars"].items():
            assert "peak of memory" in [bar["figure"] for bar in bars], (one["workload"], step)
            assert all(isinstance(bar["reached"], bool) for bar in bars)
