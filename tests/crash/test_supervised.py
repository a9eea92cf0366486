"""A real `holdfast run` with a real script, killed by SIGKILL at an operation on disk, again and again."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.crash import writer
from tests.crash.world import InOrder
from tests.logs import Logged

from holdfast.restore import restorer
from holdfast.snapshot import catalog
from holdfast.store.directory.store import DirectoryStore

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("HOLDFAST_SUPERVISED_KILLS", "5"))
"""How many lives: `make crash` takes more."""
_FOREVER = 1_000_000


def run(root: Path, machine: str, number: int) -> tuple[int, str, str]:
    """Run until the end, or until the operation of that number; return exit code, output and log."""
    base = root / machine
    base.mkdir(exist_ok=True)
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "SAGEMAKER_BASE_DIR": str(base),
        "CHECKPOINT_S3_URI": f"file://{root / 'store'}",
        "HOLDFAST_GRACE_SECONDS": "20",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    line = [sys.executable, "-m", "tests.crash.doomed", str(number), "before", "run", "--", sys.executable]
    done = subprocess.run([*line, writer.__file__], cwd=base, env=environ, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_whatever_a_supervisor_was_at_when_it_was_killed_its_successor_resumes_from_whole_saves(
    tmp_path: Path, logged: Logged
) -> None:
    (tmp_path / "store").mkdir()
    store = DirectoryStore(tmp_path / "store")
    dice = random.Random(1)
    durable, killed = "", 0
    for life in range(KILLS + 1):
        number = _FOREVER if life == KILLS else dice.randrange(5, 110)
        code, output, log = run(tmp_path, dice.choice(("same", f"new-{life}")), number)
        assert "TORN" not in output, log
        assert code in (0, -signal.SIGKILL), log
        killed += code != 0
        restored = re.search(r"restored snapshot ([0-9-]+)", log)
        assert not (durable and "fetched" in log) or (restored and restored[1] >= durable), log
        durable = max([durable, *re.findall(r"snapshot ([0-9-]+): ", log)])
        empty = tmp_path / f"empty-{life}"
        found = catalog.read_catalog(store)
        done = restorer.restore(store, found, empty, workers=InOrder())
        assert writer.verdict(empty) is None
        assert logged() == []
        assert (done.snapshot.name if done.snapshot else "") >= durable
    assert killed >= KILLS // 2
    assert durable
