"""The interpreter of every image, and the helper for scripts in it."""

from __future__ import annotations

import importlib
import importlib.metadata
import ssl
import subprocess
import sys
import sysconfig
import zoneinfo
from pathlib import Path

import holdfast

# What sagemaker-training asks for and never imports on the way to a training script: pyproject.toml says so.
LEFT_OUT = {"gevent", "protobuf", "scipy", "werkzeug"}


def it_is_the_users_environment(folder: Path) -> None:
    assert sys.prefix == "/opt/venv"
    assert sys.version_info[:2] == (3, 11)


def the_parts_of_the_standard_library_that_need_system_libraries_are_there(folder: Path) -> None:
    for name in ("bz2", "ctypes", "lzma", "readline", "sqlite3", "ssl", "uuid", "zlib"):
        importlib.import_module(name)
    assert zoneinfo.ZoneInfo("Europe/Berlin").key


def the_standard_library_is_compiled(folder: Path) -> None:
    stdlib = Path(sysconfig.get_path("stdlib"))
    sources = list(stdlib.glob("*.py"))
    compiled = {path.name.partition(".")[0] for path in stdlib.glob("__pycache__/*.pyc")}
    assert sources
    assert {path.stem for path in sources} - compiled == set()


def tls_trusts_the_public_authorities(folder: Path) -> None:
    assert len(ssl.create_default_context().get_ca_certs()) > 100


def every_package_has_what_it_needs(folder: Path) -> None:
    found = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    lines = [line for line in found.stdout.splitlines() if line != "No broken requirements found."]
    without = {line.split()[3].rstrip(",") for line in lines if line.startswith("sagemaker-training 5.1.4 requires")}
    assert len(without) == len(lines), found.stdout
    assert without <= LEFT_OUT, found.stdout


def every_file_of_every_package_is_there(folder: Path) -> None:
    missing = [
        str(file)
        for distribution in importlib.metadata.distributions()
        for file in distribution.files or []
        if not Path(str(file.locate())).exists()
    ]
    # The command is /usr/local/bin/holdfast, the supervisor's.
    assert missing == ["../../../bin/holdfast"], missing


def a_checkpoint_is_saved_and_found_again(folder: Path) -> None:
    for step in (9, 10):
        with holdfast.save(folder / f"step-{step}") as temporary:
            temporary.write_text(str(step))
    newest = holdfast.latest("step-*", directory=folder)
    assert newest is not None
    assert newest.read_text() == "10"
