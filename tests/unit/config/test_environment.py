"""What the script sees, and the files a SageMaker container would find."""

import json
from pathlib import Path

import pytest

from holdfast_entrypoint.config import environment, reader
from holdfast_entrypoint.config import settings as config


def settings(base: Path, hyperparameters: dict[str, str] | None = None, **variables: str) -> config.Config:
    directory = base / "input/config"
    directory.mkdir(parents=True, exist_ok=True)
    if hyperparameters is not None:
        (directory / "hyperparameters.json").write_text(json.dumps(hyperparameters))
    return reader.load({"SAGEMAKER_BASE_DIR": str(base), **variables})


def test_a_fresh_start_has_no_resume_and_a_resumed_one_has(tmp_path: Path) -> None:
    own = settings(tmp_path, CHECKPOINT_S3_URI="s3://bucket/job/")
    fresh = environment.variables(own, attempt=1, resume=None, notice_file=Path("/run/notice"))
    assert "HOLDFAST_RESUME" not in fresh
    assert fresh["HOLDFAST_ATTEMPT"] == "1"
    assert fresh["HOLDFAST_NOTICE_FILE"] == "/run/notice"
    assert fresh["CHECKPOINT_S3_URI"] == "s3://bucket/job"
    assert fresh["SM_CHECKPOINT_DIR"] == fresh["CHECKPOINT_LOCAL_PATH"] == f"{tmp_path}/checkpoints"
    resumed = environment.variables(own, attempt=2, resume=Path("/x/e.pt"), notice_file=Path("/run/notice"))
    assert resumed["HOLDFAST_RESUME"] == "/x/e.pt"


def test_hyperparameters_become_variables_and_arguments(tmp_path: Path) -> None:
    own = settings(
        tmp_path,
        {
            "epochs": "3",
            "learning-rate": "0.1",
            "n": "5",
            "layers": "[1, 2]",
            "flag": "true",
            "sagemaker_program": '"t.py"',
        },
    )
    seen = environment.variables(own, attempt=1, resume=None, notice_file=Path("/n"))
    assert seen["SM_HP_EPOCHS"] == "3"
    assert seen["SM_HP_LEARNING-RATE"] == "0.1"
    assert json.loads(seen["SM_HPS"]) == {"epochs": 3, "learning-rate": 0.1, "n": 5, "layers": [1, 2], "flag": True}
    assert seen["SM_USER_ENTRY_POINT"] == "t.py"
    assert seen["SM_MODULE_NAME"] == "t"
    arguments = ["--epochs", "3", "--flag", "True", "--layers", "[1, 2]", "--learning-rate", "0.1", "-n", "5"]
    assert environment.user_arguments(own) == arguments
    assert json.loads(seen["SM_USER_ARGS"]) == arguments


def test_variables_and_arguments_are_those_of_sagemakers_own_toolkit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))  # it reads this, and makes directories, when it is imported
    for name in ("code", "input/config", "model", "output"):
        (tmp_path / name).mkdir(parents=True)
    toolkit = pytest.importorskip("sagemaker_training.environment", reason="pip install sagemaker-training (needs gcc)")
    hyperparameters = {
        "epochs": "3",
        "lr": "0.1",
        "n": "5",
        "names": '["a", "b"]',
        "more": '{"k": 1}',
        "on": "true",
        "s": "x",
    }
    own = settings(tmp_path, hyperparameters, SAGEMAKER_PROGRAM="t.py")
    environment.make_tree(own)
    monkeypatch.setenv("SAGEMAKER_PROGRAM", "t.py")
    theirs = toolkit.Environment()
    seen = environment.variables(own, attempt=1, resume=None, notice_file=Path("/n"))
    expected = theirs.to_env_vars()
    assert environment.user_arguments(own) == theirs.to_cmd_args()
    for name in sorted(expected.keys() & seen.keys() - {"SM_NUM_CPUS", "SM_NUM_GPUS", "SM_MODULE_DIR"}):
        assert (name, seen[name]) == (name, expected[name])
    assert {"SM_HPS", "SM_HP_MORE", "SM_HOSTS", "SM_MODEL_DIR", "SM_USER_ARGS"} <= expected.keys() & seen.keys()


def test_channels_are_named(tmp_path: Path) -> None:
    (tmp_path / "input/config").mkdir(parents=True)
    (tmp_path / "input/config/inputdataconfig.json").write_text('{"train": {"TrainingInputMode": "File"}}')
    seen = environment.variables(settings(tmp_path), attempt=1, resume=None, notice_file=Path("/n"))
    assert seen["SM_CHANNEL_TRAIN"] == f"{tmp_path}/input/data/train"
    assert json.loads(seen["SM_CHANNELS"]) == ["train"]


def test_the_tree_and_absent_files_are_made_and_present_ones_left_alone(tmp_path: Path) -> None:
    own = settings(tmp_path, {"epochs": "3"})
    environment.make_tree(own)
    directory = tmp_path / "input/config"
    assert json.loads((directory / "hyperparameters.json").read_text()) == {"epochs": "3"}
    assert json.loads((directory / "checkpointconfig.json").read_text()) == {"LocalPath": f"{tmp_path}/checkpoints"}
    assert json.loads((directory / "resourceconfig.json").read_text())["current_host"] == own.host
    assert json.loads((directory / "inputdataconfig.json").read_text()) == {}
    assert (tmp_path / "model").is_dir()
    assert (tmp_path / "output/data").is_dir()
