"""CUDA in the images for GPUs, on a machine without one: an empty library stands in for the driver's libcuda.so.1."""

from __future__ import annotations

import ctypes
import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata, util
from pathlib import Path

# Plugins for the fabrics of large clusters: loaded only where the host's libraries for the fabric are installed.
PLUGINS = ("libcufile_rdma", "nvshmem_bootstrap_", "nvshmem_transport_")
FRAMEWORK = next(name for name in ("torch", "tensorflow", "xgboost") if util.find_spec(name))
LOAD = f"""
import ctypes, os, sys
import {FRAMEWORK}
for path in sys.argv[1:]:
    try:
        ctypes.CDLL(path, mode=os.RTLD_LAZY)
    except OSError as error:
        print(path, error)
"""


def _libraries() -> list[Path]:
    packages = [found for found in metadata.distributions() if found.name.startswith("nvidia-")]
    files = {Path(str(file.locate())) for package in packages for file in package.files or [] if ".so" in file.name}
    return sorted(files)


def _with_a_driver(folder: Path) -> dict[str, str]:
    """Return an environment in which the loader finds a libcuda.so.1 that has no function at all."""
    libc = next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libc.so" in line)
    shutil.copy(Path(libc).with_name("libutil.so.1"), folder / "libcuda.so.1")
    return {**os.environ, "LD_LIBRARY_PATH": str(folder)}


def there_is_no_gpu_and_no_driver_here(folder: Path) -> None:
    """Or the checks below prove less than they say."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return
    raise AssertionError("libcuda.so.1 is there: these checks are for machines without a GPU")


def the_loader_finds_everything_that_nvidias_libraries_need_but_the_driver(folder: Path) -> None:
    libraries = _libraries()
    assert libraries
    needed = [str(path) for path in libraries if not path.name.startswith(PLUGINS)]
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, *needed], env=_with_a_driver(folder), capture_output=True, text=True, check=True
    )
    assert loaded.stdout == "", loaded.stdout


def the_frameworks_wheel_is_built_for_cuda(folder: Path) -> None:
    print(
        f"{FRAMEWORK} {metadata.version(FRAMEWORK)}: CUDA {_cuda_version()}, {len(_libraries())} libraries of NVIDIA's"
    )
    assert int(_cuda_version().partition(".")[0]) in (12, 13)


def _cuda_version() -> str:
    framework = importlib.import_module(FRAMEWORK)
    if FRAMEWORK == "torch":
        return str(framework.version.cuda)
    if FRAMEWORK == "tensorflow":
        return str(framework.sysconfig.get_build_info()["cuda_version"])
    return str(framework.build_info()["CUDA_VERSION"][0])


def a_compiler_that_knows_python_is_there_for_triton(folder: Path) -> None:
    if not util.find_spec("triton"):
        return
    (folder / "launcher.c").write_text("#include <Python.h>\nint main(void) { return PY_MAJOR_VERSION - 3; }\n")
    command = ["gcc", "-shared", "-fPIC", f"-I{sysconfig.get_path('include')}", "launcher.c", "-o", "launcher.so"]
    subprocess.run(command, cwd=folder, check=True)
