"""Who takes part: holdfast, the tools that a user would take instead, the fastest libraries, and the floors."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from benchmarks.server import Server


class Kind(StrEnum):
    """What a contestant is compared as."""

    HOLDFAST = "holdfast"
    TOOL = "tool"
    LIBRARY = "library"
    FLOOR = "floor"


@dataclass(frozen=True, slots=True)
class Job:
    """One transfer to make.

    Attributes:
        server: where from or to.
        bucket: where what is uploaded lies, in the folder `PREFIX` of it.
        source: what is uploaded.
        directory: the same, or an empty one to download to.
        binaries: folder of the programs.
        scratch: an empty folder for what else a program needs.
    """

    server: Server
    bucket: str
    source: Path
    directory: Path
    binaries: Path
    scratch: Path

    @property
    def uri(self) -> str:
        """The prefix."""
        return f"s3://{self.bucket}/{PREFIX}"

    @property
    def only_file(self) -> str:
        """The name of the file, where there is but one."""
        return next(self.source.iterdir()).name

    def program(self, name: str) -> str:
        """Return the path of a program: that of the environment, or whatever is on the path."""
        own = self.binaries / name
        return str(own) if own.exists() else name


PREFIX = "prefix"
Line = Callable[[Job], Sequence[str]]
_RCLONE = {
    "RCLONE_CONFIG_BENCH_TYPE": "s3",
    "RCLONE_CONFIG_BENCH_ENV_AUTH": "true",
    "RCLONE_CONFIG_BENCH_REGION": "us-east-1",
    "RCLONE_CONFIG_BENCH_FORCE_PATH_STYLE": "true",
}


@dataclass(frozen=True, slots=True)
class Contestant:
    """A tool or library that is compared.

    Attributes:
        name: for the command line and the results.
        kind: what they are compared as.
        up: the command that uploads a directory.
        down: the command that downloads it.
        program: that has to be there; for a library its module in `benchmarks.libraries`.
        syncs: whether a second upload looks at what is there already.
        only_one_file: takes no directories.
        stores: whether anything is stored at the server at all.
        below: whether what is downloaded arrives below the name of the directory.
        is_run: a whole life of a container, for the second upload only.
    """

    name: str
    kind: Kind
    up: Line
    down: Line
    program: str
    syncs: bool = False
    only_one_file: bool = False
    stores: bool = True
    below: bool = False
    is_run: bool = False

    def environ(self, job: Job) -> Mapping[str, str]:
        """Return the variables that the commands get beside a bare environment."""
        environ = job.server.environ
        if self.program == "rclone":
            # Without TLS it cannot send to AWS, whose way of checksums it takes to need that.
            provider = "AWS" if job.server.authority else "Other"
            environ |= {**_RCLONE, "RCLONE_CONFIG_BENCH_PROVIDER": provider}
            environ |= {"RCLONE_CONFIG_BENCH_ENDPOINT": job.server.endpoint}
        if self.is_run:
            environ |= {
                "CHECKPOINT_S3_URI": job.uri,
                "CHECKPOINT_LOCAL_PATH": str(job.directory),
                "SAGEMAKER_BASE_DIR": str(job.scratch / "base"),
                "HOLDFAST_HOST": "bench",
            }
        return environ

    def missing(self, binaries: Path, *, tls: bool) -> str | None:
        """Return why they cannot take part, None when they can."""
        if tls and self.program == "s3_torch_connector":
            return "can be told no certificate to trust"
        if self.program not in LIBRARIES:
            there = (binaries / self.program).exists() or shutil.which(self.program)
            return None if there else f"no program {self.program}"
        command = [str(binaries / "python"), "-m", "benchmarks.libraries", self.program]
        root = Path(__file__).parent.parent
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        return done.stderr.strip().splitlines()[-1] if done.returncode else None


LIBRARIES = {
    "boto3_default": Kind.TOOL,
    "s3fs_python": Kind.TOOL,
    "s3_torch_connector": Kind.TOOL,
    "boto3_tuned": Kind.LIBRARY,
    "awscrt_tuned": Kind.LIBRARY,
    "obstore_default": Kind.LIBRARY,
    "obstore_unsigned": Kind.LIBRARY,
    "opendal_tuned": Kind.LIBRARY,
}


def _s5cmd(job: Job, source: str, target: str) -> list[str]:
    address = ["--endpoint-url", job.server.endpoint]
    return [job.program("s5cmd"), *address, "--log", "error", "sync", source, target]


def _aws(job: Job, source: str, target: str) -> list[str]:
    return [job.program("aws"), "s3", "sync", "--only-show-errors", source, target]


def _rclone(job: Job, source: str, target: str) -> list[str]:
    return [job.program("rclone"), "sync", "--quiet", source, target]


def _curl(job: Job, *arguments: str) -> list[str]:
    address = f"{job.server.endpoint}/{job.bucket}/{PREFIX}/{job.only_file}"
    return ["curl", "--silent", "--show-error", "--fail", *arguments, address]


def _library(name: str, kind: Kind) -> Contestant:
    def line(verb: str) -> Line:
        command = ("-m", "benchmarks.libraries", name, verb)
        return lambda job: [job.program("python"), *command, job.bucket, f"{PREFIX}/", str(job.directory)]

    return Contestant(name, kind, line("upload"), line("download"), name)


CONTESTANTS = (
    Contestant(
        "holdfast",
        Kind.HOLDFAST,
        lambda job: [job.program("holdfast"), "push", str(job.directory), job.uri],
        lambda job: [job.program("holdfast"), "pull", job.uri, str(job.directory)],
        "holdfast",
        syncs=True,
        below=True,
    ),
    Contestant(
        "holdfast_run",
        Kind.HOLDFAST,
        lambda job: [job.program("holdfast"), "run", "--", "true"],
        lambda job: [job.program("holdfast"), "pull", job.uri, str(job.directory)],
        "holdfast",
        syncs=True,
        is_run=True,
    ),
    Contestant(
        "aws_cli",
        Kind.TOOL,
        lambda job: _aws(job, str(job.directory), job.uri),
        lambda job: _aws(job, job.uri, str(job.directory)),
        "aws",
        syncs=True,
    ),
    Contestant(
        "s5cmd",
        Kind.TOOL,
        lambda job: _s5cmd(job, f"{job.directory}/", f"{job.uri}/"),
        lambda job: _s5cmd(job, f"{job.uri}/*", f"{job.directory}/"),
        "s5cmd",
        syncs=True,
    ),
    Contestant(
        "rclone",
        Kind.TOOL,
        lambda job: _rclone(job, str(job.directory), f"bench:{job.bucket}/{PREFIX}"),
        lambda job: _rclone(job, f"bench:{job.bucket}/{PREFIX}", str(job.directory)),
        "rclone",
        syncs=True,
    ),
    *(_library(name, kind) for name, kind in LIBRARIES.items()),
    Contestant(
        "cp",
        Kind.FLOOR,
        lambda job: ["cp", "-r", f"{job.directory}/.", str(job.scratch)],
        lambda job: ["cp", "-r", f"{job.source}/.", str(job.directory)],
        "cp",
        stores=False,
    ),
    Contestant(
        "curl",
        Kind.FLOOR,
        lambda job: _curl(job, "--upload-file", str(job.directory / job.only_file)),
        lambda job: _curl(job, "--output", str(job.directory / job.only_file)),
        "curl",
        only_one_file=True,
    ),
)
