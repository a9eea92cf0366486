"""Read the configuration from the environment and SageMaker's JSON files, and collect every problem."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from holdfast.errors import ConfigError
from holdfast.maintenance import retention
from holdfast.maintenance.retention import Retention
from holdfast.restore.plan import Mode
from holdfast.store import location
from holdfast.store.location import Location
from holdfast.workers import rate_limit
from holdfast_entrypoint.config import hosts, log_settings, platforms
from holdfast_entrypoint.config.platforms import Platform
from holdfast_entrypoint.config.settings import Config

METADATA_ENDPOINT = "http://169.254.169.254"
VARIABLES = frozenset(
    {
        "CHECKPOINT_LOCAL_PATH",
        "CHECKPOINT_RESTORE",
        "CHECKPOINT_RETENTION",
        "CHECKPOINT_S3_URI",
        "HOLDFAST_ATTEMPT",
        "HOLDFAST_GRACE_SECONDS",
        "HOLDFAST_HOST",
        "HOLDFAST_HOSTS",
        "HOLDFAST_HOST_NOTICE_FILE",
        "HOLDFAST_LOG_FORMAT",
        "HOLDFAST_LOG_LEVEL",
        "HOLDFAST_NOTICE_FILE",
        "HOLDFAST_REPORT_FILE",
        "HOLDFAST_RESUME",
        "HOLDFAST_RUN",
        "HOLDFAST_S3_TIMEOUT_SECONDS",
        "HOLDFAST_STOP_SIGNAL",
        "HOLDFAST_UPLOAD_LIMIT",
    }
)
"""The variables of holdfast that begin with HOLDFAST_ or CHECKPOINT_."""
RESERVED = ("input", "model", "output", "code")
"""Directories of SageMaker below /opt/ml. The checkpoint directory must not overlap them."""


def load(environ: Mapping[str, str]) -> Config:
    """Read the configuration.

    Raises:
        ConfigError: with one sentence for each problem.
    """
    config, problems = read(environ)
    if problems:
        raise ConfigError(*problems)
    return config


def read(environ: Mapping[str, str]) -> tuple[Config, list[str]]:
    """Return the configuration, and one sentence for each problem. With a problem it must not be used."""
    reader = _Reader(environ)
    return reader.config(), reader.problems


def misspelt(environ: Mapping[str, str]) -> list[str]:
    """Return one sentence for each variable whose name is almost one of VARIABLES."""
    return [
        f"unknown variable {name}: is {close[0]} meant?"
        for name in sorted(environ.keys() - VARIABLES)
        if name.startswith(("HOLDFAST_", "CHECKPOINT_")) and (close := get_close_matches(name, VARIABLES, 1, 0.85))
    ]


class _Reader:
    """Read each setting, and collect the problems."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.problems: list[str] = []
        self._environ = environ
        self._base = Path(environ.get("SAGEMAKER_BASE_DIR") or "/opt/ml")
        if not self._base.is_absolute():
            self.problems.append(f"SAGEMAKER_BASE_DIR must be an absolute directory; it is {str(self._base)!r}")
        self._platform = platforms.detect(environ)
        self.problems += log_settings.read(environ)[-1]

    def config(self) -> Config:
        hyperparameters = {key: _decoded(value) for key, value in self._json("hyperparameters.json").items()}
        resources = self._json("resourceconfig.json")
        checkpoint_config = self._json("checkpointconfig.json")
        managed = self._platform is Platform.SAGEMAKER and bool(checkpoint_config)
        place = None if managed else self._location("CHECKPOINT_S3_URI")
        checkpoints = self._checkpoint_directory(checkpoint_config, place)
        start = self._json("init-config.json") if self._platform is Platform.SAGEMAKER else {}
        host, group, problems = hosts.read(self._environ, self._platform, resources, start)
        self.problems += problems
        outputs = self._location("OUTPUT_S3_URI")
        if place is not None and outputs is not None and outputs.is_within(place):
            self.problems.append(
                f"OUTPUT_S3_URI {outputs} is inside CHECKPOINT_S3_URI {place}, where the archives would count as "
                "checkpoints: set a prefix outside of it"
            )
        program = self._environ.get("SAGEMAKER_PROGRAM") or hyperparameters.get("sagemaker_program")
        return Config(
            base=self._base,
            platform=self._platform,
            managed=managed,
            location=place,
            checkpoints=checkpoints,
            restore=self._restore(),
            outputs=outputs,
            retention=self._retention(),
            upload_limit=self._upload_limit(),
            grace=self._grace(),
            stop_signal=self._stop_signal(),
            metadata_endpoint=self._metadata_endpoint(),
            host_notice_file=self._path("HOLDFAST_HOST_NOTICE_FILE"),
            report_file=self._path("HOLDFAST_REPORT_FILE"),
            host=host,
            group=group,
            hyperparameters=hyperparameters,
            resources=resources,
            channels=self._json("inputdataconfig.json"),
            program=str(program) if program else None,
            run_number=hosts.run_number(start),
        )

    def _json(self, name: str) -> dict[str, Any]:
        path = self._base / "input/config" / name
        try:
            value = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError) as error:
            self.problems.append(f"{path} cannot be read as JSON ({error}): correct or remove it")
            return {}
        if not isinstance(value, dict):
            self.problems.append(f"{path} must hold a JSON object; it holds {type(value).__name__}")
            return {}
        return value

    def _location(self, variable: str) -> Location | None:
        uri = self._environ.get(variable)
        if uri is None:
            return None
        if not uri.strip():
            self.problems.append(f"{variable} is empty: set a value, or unset it")
            return None
        try:
            return location.parse(uri, name=variable)
        except ConfigError as error:
            self.problems.extend(error.problems)
            return None

    def _path(self, variable: str) -> Path | None:
        value = self._environ.get(variable)
        return Path(value).absolute() if value else None

    def _checkpoint_directory(self, checkpoint_config: Mapping[str, Any], place: Location | None) -> Path:
        named = self._environ.get("CHECKPOINT_LOCAL_PATH") or str(checkpoint_config.get("LocalPath") or "")
        directory = Path(named) if named else self._base / "checkpoints"
        if not directory.is_absolute():
            self.problems.append(f"CHECKPOINT_LOCAL_PATH must be an absolute directory; it is {named!r}")
            return directory
        directory = Path(os.path.normpath(directory))
        for reserved in (self._base / name for name in RESERVED):
            if _overlap(directory, reserved):
                self.problems.append(
                    f"CHECKPOINT_LOCAL_PATH {directory} overlaps {reserved}, which belongs to SageMaker: "
                    f"set another directory, such as {self._base / 'checkpoints'}"
                )
        if place is not None and place.scheme == "file" and _overlap(directory, Path(place.prefix)):
            self.problems.append(
                f"CHECKPOINT_S3_URI {place} overlaps the checkpoint directory {directory}: set another location"
            )
        if directory.exists() and not directory.is_dir():
            self.problems.append(
                f"CHECKPOINT_LOCAL_PATH {directory} is not a directory: remove the file, or set another path"
            )
        return directory

    def _restore(self) -> Mode:
        value = self._environ.get("CHECKPOINT_RESTORE") or Mode.ALL
        if value in list(Mode):
            return Mode(value)
        self.problems.append(f"CHECKPOINT_RESTORE must be {', '.join(Mode)}; it is {value!r}")
        return Mode.ALL

    def _retention(self) -> Retention:
        try:
            return retention.parse(self._environ.get("CHECKPOINT_RETENTION") or "3", name="CHECKPOINT_RETENTION")
        except ConfigError as error:
            self.problems.extend(error.problems)
            return Retention()

    def _upload_limit(self) -> float | None:
        value = self._environ.get("HOLDFAST_UPLOAD_LIMIT")
        try:
            return rate_limit.parse(value, name="HOLDFAST_UPLOAD_LIMIT") if value else None
        except ConfigError as error:
            self.problems.extend(error.problems)
            return None

    def _grace(self) -> float:
        value = self._environ.get("HOLDFAST_GRACE_SECONDS")
        if not value:
            return platforms.GRACE_SECONDS[self._platform]
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            self.problems.append(f"HOLDFAST_GRACE_SECONDS must be a number of seconds above 0; it is {value!r}")
        return seconds

    def _stop_signal(self) -> signal.Signals:
        value = self._environ.get("HOLDFAST_STOP_SIGNAL") or "SIGTERM"
        name = value.upper() if value.upper().startswith("SIG") else f"SIG{value.upper()}"
        try:
            number = signal.Signals(int(value)) if value.isdigit() else signal.Signals[name]
        except (KeyError, ValueError):
            self.problems.append(f"HOLDFAST_STOP_SIGNAL must be a signal such as SIGTERM or SIGUSR1; it is {value!r}")
            return signal.SIGTERM
        if number in (signal.SIGKILL, signal.SIGSTOP):
            self.problems.append(f"HOLDFAST_STOP_SIGNAL must be a signal that a script can handle; it is {value!r}")
        return number

    def _metadata_endpoint(self) -> str | None:
        # Both variables are those of the AWS SDKs.
        if self._environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            return None
        named = self._environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT")
        if named:
            if not _is_plain_http(named):
                self.problems.append(f"AWS_EC2_METADATA_SERVICE_ENDPOINT must be http://HOST[:PORT]; it is {named!r}")
            return named
        fargate = "FARGATE" in self._environ.get("AWS_EXECUTION_ENV", "")
        asks = self._platform is not Platform.SAGEMAKER and not fargate
        return METADATA_ENDPOINT if asks else None


def _decoded(value: object) -> object:
    """Undo the JSON encoding of hyperparameters by SageMaker's SDK; a plain string is returned as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _is_plain_http(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        return parts.scheme == "http" and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # the port is not a number
        return False


def _overlap(one: Path, other: Path) -> bool:
    """Return whether one directory is inside the other, as written or with links resolved."""
    pairs = ((one, other), (Path(os.path.realpath(one)), Path(os.path.realpath(other))))
    return any(here.is_relative_to(there) or there.is_relative_to(here) for here, there in pairs)
