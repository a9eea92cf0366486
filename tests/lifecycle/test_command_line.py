"""The command line: arguments, output and exit codes."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from tests.lifecycle.conftest import Start

import holdfast
from holdfast_entrypoint.cli.main import BY_HAND
from holdfast_entrypoint.config import environment
from holdfast_entrypoint.config.reader import VARIABLES

TREE = Path(holdfast.__file__).parents[2]


def line(*arguments: str, directory: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    everything = {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "CHECKPOINT", "SAGEMAKER"))
        },
        "SAGEMAKER_BASE_DIR": str(directory / "ml"),
        "AWS_EC2_METADATA_DISABLED": "true",
        **environ,
    }
    command = [sys.executable, "-I", "-u", "-m", "holdfast_entrypoint", *arguments]
    return subprocess.run(command, env=everything, cwd=directory, capture_output=True, text=True, timeout=120)


def test_help_and_version(tmp_path: Path) -> None:
    shown = line("--help", directory=tmp_path)
    assert shown.returncode == 0
    asked = VARIABLES - environment.OURS  # the others are set for the script
    assert not [name for name in sorted(asked) if f"\n  {name}" not in shown.stdout.replace(", ", "\n  ")]
    assert line("--version", directory=tmp_path).stdout == f"holdfast {holdfast.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [("run", "--", "echo", "hi there"), ("run", "echo", "hi there"), ("echo", "hi there"), ("--", "echo", "hi there")],
)
def test_a_command_runs_however_it_is_given(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = line(*arguments, directory=tmp_path)
    assert (done.returncode, done.stdout) == (0, "hi there\n")


def test_options_of_the_command_are_the_commands(tmp_path: Path) -> None:
    done = line("run", sys.executable, "-c", "import sys; print(sys.argv[1:])", "--help", "-x", directory=tmp_path)
    assert done.stdout == "['--help', '-x']\n"


@pytest.mark.parametrize("arguments", [(), ("train",)])
def test_train_runs_the_program_as_sagemaker_does(arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "ml/code/sub").mkdir(parents=True)
    (tmp_path / "ml/input/config").mkdir(parents=True)
    (tmp_path / "ml/code/sub/job.py").write_text("import os, sys; print(sys.argv, os.getcwd())")
    (tmp_path / "ml/input/config/hyperparameters.json").write_text(
        json.dumps({"epochs": "3", "sagemaker_program": '"sub/job.py"', "name": '"a b"'})
    )
    done = line(*arguments, directory=tmp_path)
    assert done.stdout == f"['sub/job.py', '--epochs', '3', '--name', 'a b'] {tmp_path}/ml/code\n", done.stderr


@pytest.mark.parametrize("command", ["", "run", *BY_HAND])
def test_the_help_of_every_command_fits_into_80_columns(command: str, tmp_path: Path) -> None:
    shown = line(*command.split(), "--help", directory=tmp_path, COLUMNS="80")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"holdfast {command}".rstrip() in shown.stdout
    assert not [row for row in shown.stdout.splitlines() if len(row) > 80]


@pytest.mark.parametrize(
    ("arguments", "environ", "message"),
    [
        (("serve",), {}, "training image"),
        (("run",), {}, "the command is missing"),
        (("--unknown",), {}, "unknown option: --unknown"),
        (("train",), {}, "no program is named"),
        (("train",), {"SAGEMAKER_PROGRAM": "../x.py"}, "must be a file under"),
        (("train",), {"SAGEMAKER_PROGRAM": "x.sh"}, "must be a Python file"),
        (("train",), {"SAGEMAKER_PROGRAM": "x.py"}, "file not found"),
        (("ls",), {}, "required: URI"),
        (("ls", "bucket"), {}, "URI must be"),
        (("true",), {"CHECKPOINT_S3_URI": "s3:/x", "HOLDFAST_GRACE_SECONDS": "x"}, "HOLDFAST_GRACE_SECONDS"),
        (("true",), {"HOLDFAST_LOG_LEVEL": "loud"}, "holdfast: error: HOLDFAST_LOG_LEVEL must be debug, info"),
        (("ls", "file:///x"), {"HOLDFAST_LOG_FORMAT": "xml"}, "HOLDFAST_LOG_FORMAT must be text or json"),
        (("true",), {"CHECKPOINT_S3_URI": "s3://bucket/x", "AWS_ENDPOINT_URL_S3": "localhost:9000"}, "http://HOST"),
    ],
)
def test_a_wrong_configuration_is_refused_with_64_and_a_message(
    arguments: tuple[str, ...], environ: dict[str, str], message: str, tmp_path: Path
) -> None:
    done = line(*arguments, directory=tmp_path, **environ)
    assert done.returncode == 64
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_store_directory_that_is_not_mounted_is_an_error_and_no_fresh_start(tmp_path: Path) -> None:
    done = line("echo", "started", directory=tmp_path, CHECKPOINT_S3_URI=f"file://{tmp_path}/not/mounted")
    assert (done.returncode, done.stdout) == (69, "")
    assert "does not exist" in done.stderr


def test_a_mistyped_command_ends_no_job_that_runs_under_the_prefix(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    done = line("pyhton", "train.py", directory=tmp_path, CHECKPOINT_S3_URI=f"file://{tmp_path}/store")
    assert done.returncode == 127
    assert "command not found in PATH: 'pyhton'" in done.stderr
    assert not list((tmp_path / "store").iterdir()), "no attempt was claimed"


def test_a_users_modules_are_not_imported_by_the_supervisor(tmp_path: Path) -> None:
    for name in ("queue", "logging", "boto3", "botocore", "urllib3", "json", "holdfast", "watchdog"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the supervisor imported a user\\'s {name}.py')")
    (tmp_path / "store").mkdir()
    uri = f"file://{tmp_path}/store"
    done = line(
        "sh", "-c", "echo x > $SM_CHECKPOINT_DIR/a", directory=tmp_path, CHECKPOINT_S3_URI=uri, PYTHONPATH=str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    assert "imported" not in done.stderr
    assert json.loads(line("ls", uri, "--json", directory=tmp_path).stdout)["checkpoints"][0]["name"] == "a"


def test_secrets_never_appear_in_the_log(tmp_path: Path) -> None:
    secrets = {
        "AWS_SECRET_ACCESS_KEY": "s3cr3t-value",
        "AWS_SESSION_TOKEN": "t0ken-value",
        "WANDB_API_KEY": "k3y-value",
    }
    endpoint = "http://user:p4ssword@127.0.0.1:1"
    for uri in ("s3://bucket/prefix", "s3://AKIA:s3cr3t-value@bucket/prefix"):
        done = line(
            "true",
            directory=tmp_path,
            CHECKPOINT_S3_URI=uri,
            AWS_ACCESS_KEY_ID="AKIDEXAMPLE",
            AWS_ENDPOINT_URL_S3=endpoint,
            **secrets,
        )
        assert done.returncode in (64, 69)
        for value in [*secrets.values(), "p4ssword", "AKIDEXAMPLE"]:
            assert value not in done.stderr + done.stdout


def test_ls_pull_push_verify_work_by_hand(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "epoch-1").mkdir()
    (tmp_path / "epoch-1/model.pt").write_bytes(b"weights")
    (tmp_path / "epoch-2.pt").write_bytes(b"more weights")
    uri = f"file://{tmp_path}/store"
    assert "starts fresh" in line("ls", uri, directory=tmp_path).stdout
    assert line("verify", uri, directory=tmp_path).returncode == 65
    for path in ("epoch-1", "epoch-2.pt"):
        assert line("push", path, uri, directory=tmp_path).returncode == 0
    again = json.loads(line("push", "epoch-1", uri, "--json", directory=tmp_path).stdout)
    assert again == {"snapshot": "000002-000001", "files": 1, "bytes": 0, "checkpoint": "epoch-1"}
    listed = json.loads(line("ls", uri, "--json", directory=tmp_path).stdout)
    assert [checkpoint["name"] for checkpoint in listed["checkpoints"]] == ["epoch-1", "epoch-2.pt"]
    assert [snapshot["files"] for snapshot in listed["snapshots"]] == [1, 2]
    shown = line("ls", uri, directory=tmp_path).stdout
    assert "epoch-2.pt" in shown
    assert "000002-000001" in shown

    assert line("pull", uri, "all", directory=tmp_path).returncode == 0
    assert (tmp_path / "all/epoch-1/model.pt").read_bytes() == b"weights"
    assert (tmp_path / "all/epoch-2.pt").read_bytes() == b"more weights"
    refused = line("pull", uri, "all", directory=tmp_path)
    assert refused.returncode == 64
    assert "not an empty directory" in refused.stderr
    pulled = json.loads(line("pull", uri, "one", "--checkpoint", "epoch-2.pt", "--json", directory=tmp_path).stdout)
    assert (pulled["files"], pulled["bytes"]) == (1, 12)
    line("pull", uri, "old", "--snapshot", "000001-000001", directory=tmp_path)
    assert not (tmp_path / "old/epoch-2.pt").exists()
    assert line("pull", uri, "none", "--snapshot", "000009-000001", directory=tmp_path).returncode == 65
    assert line("pull", uri, "none", "--checkpoint", "nope", directory=tmp_path).returncode == 65

    assert line("verify", uri, "--all", directory=tmp_path).stdout == "000001-000001  ok\n000002-000001  ok\n"
    content = tmp_path / "store/epoch-2.pt"
    status = content.stat()
    with content.open("r+b") as file:
        file.write(b"X")
    os.utime(content, ns=(status.st_atime_ns, status.st_mtime_ns))
    damaged = line("verify", uri, "--json", directory=tmp_path)
    assert damaged.returncode == 65
    report = json.loads(damaged.stdout)["snapshots"][0]
    assert not report["ok"]
    assert "CRC64NVME" in report["problems"][0]


def test_names_in_a_bucket_cannot_move_the_cursor(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store/\x1b[2Jevil").write_text("x")
    shown = line("ls", f"file://{tmp_path}/store", directory=tmp_path).stdout
    assert "\x1b" not in shown
    assert "evil" in shown


def test_the_outputs_are_packed_and_stored_when_the_script_ends_well(start: Start) -> None:
    run = start(
        "sh",
        "-c",
        "echo w > $SM_MODEL_DIR/model.bin; echo d > $SM_OUTPUT_DATA_DIR/metrics.json",
        environ={"OUTPUT_S3_URI": None},
    )
    assert run.exit_code() == 0
    out = run.store.parent / "out"
    script = "echo w > $SM_MODEL_DIR/model.bin; echo d > $SM_OUTPUT_DATA_DIR/metrics.json; exit $CODE"
    failed = start("sh", "-c", script, environ={"OUTPUT_S3_URI": f"file://{out}", "CODE": "3"}, machine="two")
    assert failed.exit_code() == 3
    assert not (out / "model.tar.gz").exists()
    good = start("sh", "-c", script, environ={"OUTPUT_S3_URI": f"file://{out}", "CODE": "0"}, machine="three")
    assert good.exit_code() == 0, good.log
    with tarfile.open(out / "model.tar.gz") as archive:
        assert archive.getnames() == ["model.bin"]
    with tarfile.open(out / "output.tar.gz") as archive:
        assert archive.getnames() == ["metrics.json"]


def test_a_script_that_ended_well_whose_outputs_cannot_be_stored_is_an_alarm(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    script = f"echo w > $SM_MODEL_DIR/m; rm -r {out}; echo no directory any more > {out}"
    run = start("sh", "-c", script, environ={"OUTPUT_S3_URI": f"file://{out}"})
    assert run.exit_code() == 74
    assert "outputs were not stored" in run.log


def test_a_missing_store_for_outputs_is_an_error_before_the_training(start: Start, tmp_path: Path) -> None:
    run = start("echo", "started", environ={"OUTPUT_S3_URI": f"file://{tmp_path}/not/mounted"})
    assert run.exit_code() == 69
    assert run.stdout == b""


def test_a_closed_standard_output_changes_no_exit_code(tmp_path: Path) -> None:
    line = f"exec {sys.executable} -I -m holdfast_entrypoint run -- sh -c 'exit 5' >&-"
    environ = {
        "SAGEMAKER_BASE_DIR": str(tmp_path / "ml"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "PATH": os.environ["PATH"],
    }
    assert subprocess.run(["sh", "-c", line], env=environ, capture_output=True, timeout=60).returncode == 5


def test_gc_prints_what_it_would_delete_and_deletes_exactly_that(start: Start, tmp_path: Path) -> None:
    script = "import os, pathlib, sys; (pathlib.Path(os.environ['SM_CHECKPOINT_DIR']) / 'last').write_text(sys.argv[1])"
    for number in range(5):
        life = start(sys.executable, "-c", script, f"{number}", environ={"CHECKPOINT_RETENTION": "all"}, machine="one")
        assert life.exit_code() == 0, life.log
    (life.store / "theirs").write_text("not ours")
    uri = f"file://{life.store}"

    def everything() -> dict[str, bytes]:
        files = (path for path in life.store.rglob("*") if path.is_file())
        return {path.relative_to(life.store).as_posix(): path.read_bytes() for path in files}

    before = everything()
    planned = json.loads(line("gc", "--keep", "1", "--ended", "--dry-run", "--json", uri, directory=tmp_path).stdout)
    assert everything() == before
    assert planned["snapshots"] == [f"00000{number}-000001" for number in range(1, 5)]
    done = line("gc", "--keep", "1", "--ended", uri, directory=tmp_path)
    assert done.returncode == 0, done.stderr
    gone = {path for path in before.keys() - everything().keys() if "/metadata/" not in path}
    assert gone == {*planned["objects"], *(f".holdfast/commits/{name}.json" for name in planned["snapshots"])}
    assert line("verify", "--all", uri, directory=tmp_path).returncode == 0
    assert (life.store / "theirs").read_text() == "not ours"
    assert (life.store / "last").read_text() == "4"


def test_gc_beside_a_running_job_deletes_nothing_that_the_job_may_still_need(start: Start, tmp_path: Path) -> None:
    script = (
        "import os, pathlib, time\n"
        "base = pathlib.Path(os.environ['SM_CHECKPOINT_DIR'])\n"
        "if not (base / 'b').exists(): (base / 'a').write_text('same'); (base / 'b').write_text('other')\n"
        "while not (base / 'go').exists(): time.sleep(0.05)\n"
        "(base / 'go').unlink(); (base / 'c').write_text('same')\n"
    )
    first = start(sys.executable, "-c", script)
    first.wait_for_log("snapshot 000001-000001")
    uri = f"file://{first.store}"
    done = line("gc", "--keep", "1", uri, directory=tmp_path)
    assert done.returncode == 0, done.stderr
    (first.checkpoints / "go").touch()
    assert first.exit_code() == 0, first.log
    assert line("verify", uri, directory=tmp_path).returncode == 0
    assert first.stored() == {"a": b"same", "b": b"other", "c": b"same"}


def test_gc_with_a_wrong_policy_deletes_nothing(start: Start, tmp_path: Path) -> None:
    life = start(sys.executable, "-c", "import os; open(os.environ['SM_CHECKPOINT_DIR'] + '/a', 'w').write('x')")
    assert life.exit_code() == 0
    done = line("gc", "--keep", "0", f"file://{life.store}", directory=tmp_path)
    assert done.returncode == 64
    assert "--keep must be" in done.stderr
