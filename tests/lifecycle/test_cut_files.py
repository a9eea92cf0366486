"""A file that its format proves to be cut is not committed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.lifecycle.conftest import Start

FULL_DISK = """
import errno, os, pathlib, sys
import numpy as np
directory = pathlib.Path(os.environ["SM_CHECKPOINT_DIR"])
np.savez(directory / "model.npz", weights=np.ones(1000))
(directory / "go").touch()
while (directory / "go").exists():
    pass
try:
    np.savez(directory / "model.npz", weights=np.random.default_rng(0).random(3_000_000))
except OSError as error:
    print("swallowed", errno.errorcode[error.errno], flush=True)
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    place = tmp_path / "disk"
    place.mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True
        ).returncode
    ):
        pytest.skip("a file system of 4 MiB cannot be mounted here: it takes root")
    return place


def test_a_file_that_a_full_disk_has_cut_is_not_committed(start: Start, small_disk: Path) -> None:
    try:
        job = start(sys.executable, "-c", FULL_DISK, environ={"CHECKPOINT_LOCAL_PATH": str(small_disk)})
        job.wait_for_log("snapshot 000001-000001")
        (small_disk / "go").unlink()
        assert job.exit_code() == 0, job.log
        assert b"swallowed ENOSPC" in job.stdout
        assert (small_disk / "model.npz").stat().st_size > 1_000_000
        assert "'model.npz' is not in the snapshot: it is not whole" in job.log
        assert len(job.stored()["model.npz"]) < 10_000, "the version before it stays"
    finally:
        subprocess.run(["umount", str(small_disk)], check=True)


def test_a_set_of_shards_without_one_of_them_is_not_committed(start: Start) -> None:
    index = {
        "metadata": {},
        "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"},
    }
    header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    shard = len(header).to_bytes(8, "little") + header + b"x"
    script = (
        "import os, pathlib\n"
        "base = pathlib.Path(os.environ['SM_CHECKPOINT_DIR'])\n"
        "for name, shards in (('step-1', (1, 2)), ('step-2', (1,))):\n"
        "    (base / name).mkdir()\n"
        f"    (base / name / 'model.safetensors.index.json').write_text({json.dumps(index)!r})\n"
        "    for number in shards:\n"
        f"        (base / name / f'model-0000{{number}}-of-00002.safetensors').write_bytes({shard!r})\n"
    )
    job = start(sys.executable, "-c", script)
    assert job.exit_code() == 0, job.log
    assert "'step-2/model.safetensors.index.json' is not in the snapshot: it is not whole" in job.log
    assert {path.partition("/")[0] for path in job.stored()} == {"step-1"}


def test_a_file_that_its_format_proves_to_be_whole_is_committed_although_its_writer_was_killed(start: Start) -> None:
    script = (
        "import os, pathlib, time\n"
        "import numpy as np\n"
        "base = pathlib.Path(os.environ['SM_CHECKPOINT_DIR'])\n"
        "whole, half = (base / 'whole.npz').open('wb'), (base / 'half.npz').open('wb')\n"
        "np.savez(whole, weights=np.ones(1000)); whole.flush()\n"
        "np.savez(half, weights=np.ones(1000)); half.truncate(4000); half.flush()\n"
        "print('written', flush=True)\n"
        "while True: time.sleep(1)\n"
    )
    job = start(sys.executable, "-c", script)
    job.wait_for_output("written")
    job.signal()
    assert job.exit_code() == 143, job.log
    assert list(job.stored()) == ["whole.npz"], job.log
