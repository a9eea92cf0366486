"""The environment is read once, and everything that is wrong with it is said at once."""

import json
import re
import signal
from pathlib import Path

import pytest

from holdfast.attempts.rendezvous import Group
from holdfast.errors import ConfigError
from holdfast.maintenance.retention import Retention
from holdfast.restore.plan import Mode
from holdfast.store.location import Location
from holdfast_entrypoint.config import platforms, reader
from holdfast_entrypoint.config.platforms import Platform


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "ml/input/config").mkdir(parents=True)
    return tmp_path / "ml"


def environ(base: Path, **variables: str) -> dict[str, str]:
    return {"SAGEMAKER_BASE_DIR": str(base), **variables}


def write(base: Path, name: str, content: object) -> None:
    (base / "input/config" / name).write_text(content if isinstance(content, str) else json.dumps(content))


def problems(variables: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        reader.load(variables)
    return "\n".join(caught.value.problems)


def test_an_empty_environment_supervises_only_with_sagemakers_paths() -> None:
    settings = reader.load({})
    assert settings.base == Path("/opt/ml")
    assert settings.checkpoints == Path("/opt/ml/checkpoints")
    assert settings.location is None
    assert settings.stop_signal == signal.SIGTERM
    assert settings.metadata_endpoint == "http://169.254.169.254"


def test_everything_is_read(base: Path, tmp_path: Path) -> None:
    write(base, "hyperparameters.json", {"epochs": "3", "lr": "0.1", "name": "plain", "sagemaker_program": '"t.py"'})
    write(base, "resourceconfig.json", {"current_host": "algo-1", "hosts": ["algo-1"]})
    settings = reader.load(
        environ(
            base,
            CHECKPOINT_S3_URI="s3://bucket/job",
            CHECKPOINT_LOCAL_PATH=str(tmp_path / "state"),
            OUTPUT_S3_URI="file:///tmp/out",
            HOLDFAST_GRACE_SECONDS="45.5",
            HOLDFAST_STOP_SIGNAL="usr1",
            AWS_EC2_METADATA_SERVICE_ENDPOINT="http://127.0.0.1:1338",
        )
    )
    assert settings.location == Location("s3", "bucket", "job")
    assert settings.checkpoints == tmp_path / "state"
    assert settings.outputs == Location("file", "", "/tmp/out")
    assert settings.grace == 45.5
    assert settings.stop_signal == signal.SIGUSR1
    assert settings.metadata_endpoint == "http://127.0.0.1:1338"
    assert settings.host == "algo-1"
    assert settings.program == "t.py"
    assert settings.hyperparameters == {"epochs": 3, "lr": 0.1, "name": "plain", "sagemaker_program": "t.py"}


def test_all_problems_are_reported_together(base: Path) -> None:
    write(base, "hyperparameters.json", "{not json")
    write(base, "resourceconfig.json", [1])
    said = problems(
        environ(
            base,
            CHECKPOINT_S3_URI="bucket/prefix",
            OUTPUT_S3_URI="s3://b",
            CHECKPOINT_LOCAL_PATH=str(base / "model/checkpoints"),
            HOLDFAST_GRACE_SECONDS="soon",
            HOLDFAST_STOP_SIGNAL="SIGKILL",
            AWS_EC2_METADATA_SERVICE_ENDPOINT="169.254.169.254",
        )
    )
    for word in (
        "hyperparameters.json",
        "resourceconfig.json",
        "CHECKPOINT_S3_URI",
        "OUTPUT_S3_URI",
        "CHECKPOINT_LOCAL_PATH",
        "HOLDFAST_GRACE_SECONDS",
        "HOLDFAST_STOP_SIGNAL",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    ):
        assert word in said


@pytest.mark.parametrize("path", ["input", "input/data/train", "model", "output/data", "code", "", "model/../code"])
def test_checkpoints_may_not_overlap_what_is_sagemakers(path: str, base: Path) -> None:
    assert "overlaps" in problems(environ(base, CHECKPOINT_LOCAL_PATH=str(base / path)))


@pytest.mark.parametrize("path", ["checkpoints", "models", "code-checkpoints"])
def test_a_similar_name_is_no_overlap(path: str, base: Path) -> None:
    assert reader.load(environ(base, CHECKPOINT_LOCAL_PATH=str(base / path))).checkpoints == base / path


def test_a_store_inside_the_checkpoint_directory_is_refused(base: Path) -> None:
    said = problems(environ(base, CHECKPOINT_S3_URI=f"file://{base}/checkpoints/store"))
    assert "set another location" in said


def test_a_file_where_the_directory_should_be_is_refused(base: Path) -> None:
    (base / "checkpoints").write_text("")
    assert "is not a directory" in problems(environ(base))


@pytest.mark.parametrize("endpoint", ["https://169.254.169.254", "http://", "http://host:none", "http://[::1"])
def test_a_metadata_endpoint_that_is_none_is_refused(endpoint: str, base: Path) -> None:
    said = problems(environ(base, AWS_EC2_METADATA_SERVICE_ENDPOINT=endpoint, HOLDFAST_GRACE_SECONDS="x"))
    assert "AWS_EC2_METADATA_SERVICE_ENDPOINT" in said
    assert "HOLDFAST_GRACE_SECONDS" in said


@pytest.mark.parametrize("variable", ["CHECKPOINT_S3_URI", "OUTPUT_S3_URI"])
def test_a_variable_that_was_left_empty_is_no_way_to_do_without_a_store(variable: str, base: Path) -> None:
    assert f"{variable} is empty: set a value" in problems(environ(base, **{variable: " "}))


def test_outputs_inside_the_checkpoints_would_be_taken_for_checkpoints(base: Path) -> None:
    said = problems(environ(base, CHECKPOINT_S3_URI="s3://b00/job", OUTPUT_S3_URI="s3://b00/job/output"))
    assert "set a prefix outside of it" in said
    reader.load(environ(base, CHECKPOINT_S3_URI="s3://b00/job", OUTPUT_S3_URI="s3://b00/job-output"))


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "x"])
def test_a_grace_that_is_none_is_refused(value: str, base: Path) -> None:
    assert "HOLDFAST_GRACE_SECONDS" in problems(environ(base, HOLDFAST_GRACE_SECONDS=value))


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("HOLDFAST_LOG_LEVEL", "loud", "HOLDFAST_LOG_LEVEL must be debug, info, warning, error; it is 'loud'"),
        ("HOLDFAST_LOG_FORMAT", "xml", "HOLDFAST_LOG_FORMAT must be text or json; it is 'xml'"),
    ],
)
def test_a_wrong_setting_of_the_log_is_reported_with_all_others(
    base: Path, variable: str, value: str, sentence: str
) -> None:
    said = problems(environ(base, HOLDFAST_GRACE_SECONDS="x", **{variable: value}))
    assert sentence in said
    assert "HOLDFAST_GRACE_SECONDS" in said


def test_an_upload_limit_is_bytes_per_second_and_none_is_no_limit(base: Path) -> None:
    assert reader.load(environ(base)).upload_limit is None
    assert reader.load(environ(base, HOLDFAST_UPLOAD_LIMIT="")).upload_limit is None
    assert reader.load(environ(base, HOLDFAST_UPLOAD_LIMIT="50MB/s")).upload_limit == 50e6
    said = problems(environ(base, HOLDFAST_UPLOAD_LIMIT="fast", HOLDFAST_GRACE_SECONDS="x"))
    assert "HOLDFAST_UPLOAD_LIMIT must be bytes per second" in said
    assert "HOLDFAST_GRACE_SECONDS" in said


def test_relative_directories_are_refused() -> None:
    said = problems({"SAGEMAKER_BASE_DIR": "here", "CHECKPOINT_LOCAL_PATH": "there"})
    assert "SAGEMAKER_BASE_DIR" in said
    assert "CHECKPOINT_LOCAL_PATH" in said


def test_several_hosts_are_known_on_sagemaker_on_batch_and_where_somebody_says_so(base: Path) -> None:
    batch = {
        "AWS_BATCH_JOB_ID": "4c1d#1",
        "AWS_BATCH_JOB_ATTEMPT": "2",
        "AWS_BATCH_JOB_NUM_NODES": "2",
        "AWS_BATCH_JOB_NODE_INDEX": "1",
    }
    settings = reader.load(environ(base, **batch))
    assert settings.host == "node-1"
    assert settings.group == Group(("node-0", "node-1"), "4c1d/2")
    settings = reader.load(environ(base, HOLDFAST_HOSTS="a, b", HOLDFAST_HOST="b", HOLDFAST_RUN="7"))
    assert (settings.host, settings.group, settings.output_host) == ("b", Group(("a", "b"), "7"), "b")
    write(base, "resourceconfig.json", {"current_host": "algo-2", "hosts": ["algo-1", "algo-2"]})
    settings = reader.load(environ(base))
    assert (settings.host, settings.group) == ("algo-2", Group(("algo-1", "algo-2")))
    write(base, "resourceconfig.json", {"current_host": "algo-1", "hosts": ["algo-1"]})
    assert reader.load(environ(base)).group is None


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"HOLDFAST_HOSTS": "a,b", "HOLDFAST_HOST": "c"}, "none of the hosts a, b"),
        ({"HOLDFAST_HOSTS": "a,a", "HOLDFAST_HOST": "a"}, "different names"),
        ({"HOLDFAST_HOSTS": "a,../b", "HOLDFAST_HOST": "a"}, "letters, digits"),
    ],
)
def test_hosts_that_cannot_be_told_apart_are_refused(base: Path, variables: dict[str, str], complaint: str) -> None:
    assert complaint in problems(environ(base, **variables))


def test_the_retention_policy_is_read_once_and_refused_when_it_is_none(base: Path) -> None:
    assert reader.load(environ(base)).retention == Retention(last=3)
    assert reader.load(environ(base, CHECKPOINT_RETENTION="5+2.5h")).retention == Retention(last=5, hours=2.5)
    assert reader.load(environ(base, CHECKPOINT_RETENTION="mirror")).retention == Retention(last=1, mirror=True)
    assert reader.load(environ(base, CHECKPOINT_RETENTION="all")).retention == Retention(last=None)
    for wrong in ("0", "-1", "3h", "3+0h", "some"):
        assert "CHECKPOINT_RETENTION must be" in problems(environ(base, CHECKPOINT_RETENTION=wrong))


def test_how_much_is_restored_is_read_once_and_refused_when_it_is_none_of_the_three(base: Path) -> None:
    assert reader.load(environ(base)).restore is Mode.ALL
    assert reader.load(environ(base, CHECKPOINT_RESTORE="")).restore is Mode.ALL
    for mode in Mode:
        assert reader.load(environ(base, CHECKPOINT_RESTORE=mode.value)).restore is mode
    told = problems(environ(base, CHECKPOINT_RESTORE="newest"))
    assert "CHECKPOINT_RESTORE must be all, latest, none; it is 'newest'" in told


def test_a_managed_sagemaker_job_is_left_to_sagemaker(base: Path) -> None:
    write(base, "checkpointconfig.json", {"LocalPath": "/state"})
    write(base, "init-config.json", {"jobRunInfo": {"jobRunNumber": 3}})
    settings = reader.load(
        environ(
            base,
            TRAINING_JOB_ARN="arn:aws:sagemaker:x",
            CHECKPOINT_S3_URI="s3://bucket/job",
            ECS_CONTAINER_METADATA_URI="http://x",
        )
    )
    assert settings.platform is Platform.SAGEMAKER
    assert settings.managed
    assert settings.location is None
    assert settings.checkpoints == Path("/state")
    assert settings.run_number == 3
    assert settings.metadata_endpoint is None
    assert settings.grace == 120


def test_sagemaker_without_checkpoint_config_is_ours_to_sync(base: Path) -> None:
    settings = reader.load(environ(base, TRAINING_JOB_ARN="arn", CHECKPOINT_S3_URI="s3://bucket/job"))
    assert not settings.managed
    assert settings.location == Location("s3", "bucket", "job")


@pytest.mark.parametrize(
    ("variables", "platform", "grace"),
    [
        ({"AWS_BATCH_JOB_ID": "1", "ECS_CONTAINER_METADATA_URI_V4": "x"}, Platform.BATCH, 30),
        ({"ECS_CONTAINER_METADATA_URI_V4": "x"}, Platform.ECS, 30),
        ({"KUBERNETES_SERVICE_HOST": "x"}, Platform.KUBERNETES, 30),
    ],
)
def test_the_platform_says_how_long_the_grace_is(variables: dict[str, str], platform: Platform, grace: float) -> None:
    settings = reader.load(variables)
    assert (settings.platform, settings.grace) == (platform, grace)


def test_the_machines_maker_tells_ec2_from_a_laptop(tmp_path: Path) -> None:
    (tmp_path / "vendor").write_text("Amazon EC2\n")
    assert platforms.detect({}, dmi=tmp_path / "vendor") is Platform.EC2
    assert platforms.detect({}, dmi=tmp_path / "absent") is Platform.LOCAL


@pytest.mark.parametrize(
    "variables",
    [
        {"AWS_EC2_METADATA_DISABLED": "true"},
        {"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE", "ECS_CONTAINER_METADATA_URI": "x"},
    ],
)
def test_where_there_is_no_metadata_none_is_asked(variables: dict[str, str]) -> None:
    assert reader.load(variables).metadata_endpoint is None


def test_a_variable_that_is_almost_one_of_ours_is_told() -> None:
    wrong = {"CHECKPOINT_RETENTON": "3", "HOLDFAST_GRACE_SECOND": "3", "CHECKPOINT_DIR": "x", "HOLDFAST_MINE": "x"}
    told = reader.misspelt({**wrong, "CHECKPOINT_RETENTION": "3"})
    assert [text.split()[2] for text in told] == ["CHECKPOINT_RETENTON:", "HOLDFAST_GRACE_SECOND:"]
    assert "is CHECKPOINT_RETENTION meant?" in told[0]


def test_the_list_of_our_variables_is_that_of_the_pages_for_users() -> None:
    docs = Path(__file__).parents[3] / "docs"
    pages = "".join((docs / name).read_text() for name in ("running.md", "in-your-script.md"))
    named = set(re.findall(r"\b(?:HOLDFAST|CHECKPOINT)_[A-Z0-9_]+", pages))
    assert named == reader.VARIABLES
