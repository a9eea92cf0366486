"""Checkpoints of several files, of every framework: complete, with a file missing, with a file cut."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.formats.cases import Directory
from tests.formats.conftest import Corpus
from tests.formats.corpus import DIRECTORIES, Tally, cuts, need

from holdfast.probes import Verdict, probe, probe_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore")  # the frameworks', while they are imported
every_directory = pytest.mark.parametrize("case", DIRECTORIES, ids=str)


def matching(pattern: str, case: Directory, files: list[str]) -> list[str]:
    return [path for path in files if re.fullmatch(f"(?:.*/)?{pattern}", path.removeprefix(f"{case.name}/"))]


@every_directory
def test_a_complete_checkpoint_is_never_refused(case: Directory, corpus: Corpus, tally: Tally) -> None:
    root, files = corpus.directory(case)
    refused = {path for path in files if probe(root / path).verdict is Verdict.CUT}
    tally.intact[case.format] += len(files)
    tally.refused_intact[case.format] += len(refused)
    assert not refused
    assert probe_checkpoint(root, files) == {}
    assert probe_checkpoint(root, files, alone=False) == {}


@every_directory
def test_a_checkpoint_without_a_file_that_it_names_is_refused_where_no_other_host_may_have_it(
    case: Directory, corpus: Corpus
) -> None:
    root, files = corpus.directory(case)
    for pattern in case.needed:
        assert matching(pattern, case, files), pattern
        for missing in matching(pattern, case, files):
            rest = [path for path in files if path != missing]
            assert probe_checkpoint(root, rest), missing
            assert not probe_checkpoint(root, rest, alone=False), missing


@every_directory
def test_every_provable_cut_of_a_file_is_refused_also_where_others_have_the_rest(
    case: Directory, corpus: Corpus, tally: Tally, tmp_path: Path
) -> None:
    made, files = corpus.directory(case)
    root = tmp_path / "copy"
    shutil.copytree(made, root)
    for pattern, provable in case.cut.items():
        assert matching(pattern, case, files), pattern
        for name in matching(pattern, case, files):
            content = (root / name).read_bytes()
            let_through = set()
            for length in reversed(cuts(len(content))):
                os.truncate(root / name, length)
                if not provable(content, length):
                    tally.unprovable[case.format] += 1
                    continue
                tally.provable[case.format] += 1
                finding = probe(root / name)
                assert finding.verdict is not Verdict.WHOLE, (name, length)
                if finding.verdict is Verdict.CUT or name in probe_checkpoint(root, files, alone=False):
                    tally.refused[case.format] += 1
                else:
                    let_through.add(length)
            (root / name).write_bytes(content)
            assert not let_through, (name, len(content))


def test_what_orbax_wrote_before_it_was_killed_is_refused_until_it_is_committed(tmp_path: Path) -> None:
    need(("orbax.checkpoint", "jax"))
    script = (
        "import os, signal, sys, pathlib\n"
        "from orbax.checkpoint._src.path import atomicity\n"
        "from tests.formats import tensorflow_libraries\n"
        "async def die(self): os.kill(os.getpid(), signal.SIGKILL)\n"
        "atomicity.CommitFileTemporaryPath.finalize = die\n"
        "tensorflow_libraries.orbax_committed_by_file(pathlib.Path(sys.argv[1]))\n"
    )
    died = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, cwd=Path(__file__).parents[2])
    assert died.returncode == -signal.SIGKILL, died.stderr
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert "7/manifest.ocdbt" in files
    assert probe_checkpoint(tmp_path, files, alone=False) == {
        "7/_CHECKPOINT_METADATA": "Orbax has not committed this checkpoint"
    }


def test_a_directory_under_orbax_temporary_name_is_refused(tmp_path: Path) -> None:
    name = "5.orbax-checkpoint-tmp-17/state/_sharding"
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text("{}")
    assert "has not committed" in probe_checkpoint(tmp_path, [name])[name]


@pytest.mark.parametrize("version", ["earliest", "latest"])
@pytest.mark.parametrize("moment", ["created", "written"])
def test_hdf5_of_a_writer_that_was_killed_before_it_closed_the_file_is_refused(
    tmp_path: Path, version: str, moment: str
) -> None:
    need(("h5py",))
    script = (
        "import os, signal, sys, h5py\n"
        "file = h5py.File(sys.argv[1], 'w', libver=sys.argv[2])\n"
        "if sys.argv[3] == 'written':\n"
        "    for n in range(20): file.create_dataset(f'g{n}/d', data=[float(n)] * 2000)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "model.h5"
    died = subprocess.run([sys.executable, "-c", script, path, version, moment], capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert probe(path).verdict is Verdict.CUT
