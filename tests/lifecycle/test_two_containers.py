"""Two containers on one prefix: the later one supersedes the earlier one, which stops."""

import sys

from tests.lifecycle.conftest import Start

TRAINS = """
import os, pathlib, sys, time
directory = pathlib.Path(os.environ["SM_CHECKPOINT_DIR"])
for step in range(1, 100_000):
    if step > int(sys.argv[1]):
        while not (directory / "go on").exists():
            time.sleep(0.05)
    (directory / "last.txt").write_text(f"{sys.argv[2]} {step}")
    print("step", step, flush=True)
    time.sleep(0.6)
"""


def test_the_earlier_of_two_containers_stops_and_changes_nothing_any_more(start: Start) -> None:
    zombie = start(sys.executable, "-c", TRAINS, "1", "zombie")
    zombie.wait_for_log("snapshot 000001-000001")
    successor = start(sys.executable, "-c", TRAINS, "1", "successor", machine="two")
    successor.wait_for_log("snapshot 000002-000001")
    (zombie.checkpoints / "go on").touch()
    assert zombie.exit_code() == 69, zombie.log
    assert "attempt 2 on" in zombie.log
    assert "must not be run again" in zombie.log
    assert zombie.report["script_exit"] == 143, "the script was stopped"
    assert successor.process.poll() is None
    successor.signal()
    assert successor.exit_code() == 143, successor.log
    assert successor.stored()["last.txt"].startswith(b"successor")


def test_a_zombie_whose_script_ends_well_stores_no_outputs_over_its_successor(start: Start) -> None:
    script = (
        "import os, pathlib, time\n"
        "base = pathlib.Path(os.environ['SM_MODEL_DIR']); (base / 'model').write_text(os.environ['WHO'])\n"
        "directory = pathlib.Path(os.environ['SM_CHECKPOINT_DIR'])\n"
        "while not (directory / 'end').exists() and os.environ['WHO'] == 'zombie': time.sleep(0.05)\n"
        "(directory / 'end').unlink(missing_ok=True)\n"
    )
    root = start("true").machine.parent
    environ = {"OUTPUT_S3_URI": f"file://{root}/outputs"}
    zombie = start(sys.executable, "-c", script, environ={**environ, "WHO": "zombie"}, machine="two")
    zombie.wait_for_log("a fresh start")
    successor = start(sys.executable, "-c", script, environ={**environ, "WHO": "successor"}, machine="three")
    assert successor.exit_code() == 0, successor.log
    before = {path: path.read_bytes() for path in (root / "outputs").rglob("*.tar.gz")}
    assert before
    (zombie.checkpoints / "end").touch()
    assert zombie.exit_code() == 69, zombie.log
    assert {path: path.read_bytes() for path in (root / "outputs").rglob("*.tar.gz")} == before
