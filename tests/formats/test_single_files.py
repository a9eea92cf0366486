"""Files of every framework, whole and cut, probed one at a time."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

import pytest
from tests.formats.cases import File
from tests.formats.conftest import Corpus
from tests.formats.corpus import FILES, Tally, cuts

from holdfast.probes import Verdict, probe
from holdfast.probes.one_file import PROBE_FAILED

pytestmark = pytest.mark.filterwarnings("ignore")  # the frameworks', while they are imported
every_file = pytest.mark.parametrize("case", FILES, ids=str)


@every_file
def test_an_intact_file_is_never_refused(case: File, corpus: Corpus, tally: Tally) -> None:
    for seed in (1, 2, 3):
        path = corpus.file(case, seed)
        finding = probe(path)
        tally.intact[case.format] += 1
        tally.refused_intact[case.format] += finding.verdict is Verdict.CUT
        assert finding.verdict is (Verdict.WHOLE if case.whole else Verdict.UNKNOWN), finding.reason
        assert probe(path, content_budget=0).verdict is not Verdict.CUT


@every_file
def test_every_provable_cut_is_refused_and_no_cut_is_called_whole(
    case: File, corpus: Corpus, tally: Tally, tmp_path: Path
) -> None:
    path = tmp_path / case.name
    shutil.copyfile(corpus.file(case), path)
    content = path.read_bytes()
    let_through = {}
    for length in reversed(cuts(len(content))):
        os.truncate(path, length)
        finding = probe(path)
        assert finding.verdict is not Verdict.WHOLE, (length, finding.reason)
        if not case.provable(content, length):
            tally.unprovable[case.format] += 1
            continue
        tally.provable[case.format] += 1
        if finding.verdict is Verdict.CUT:
            tally.refused[case.format] += 1
        else:
            let_through[length] = finding.reason
    assert not let_through, f"of {len(content)} bytes"


@every_file
def test_a_file_of_full_length_whose_end_was_never_written_is_not_called_whole(
    case: File, corpus: Corpus, tally: Tally, tmp_path: Path
) -> None:
    path = tmp_path / case.name
    shutil.copyfile(corpus.file(case), path)
    content = path.read_bytes()
    for length in reversed(cuts(len(content))):
        os.truncate(path, length)
        os.truncate(path, len(content))  # zeros, as a file system leaves them
        if content[length:].strip(b"\0"):
            tally.holes[case.format] += 1
            finding = probe(path)
            assert finding.verdict is not Verdict.WHOLE, (length, finding.reason)


@every_file
def test_a_file_overwritten_in_place_up_to_somewhere_is_not_called_whole(
    case: File, corpus: Corpus, tally: Tally, tmp_path: Path
) -> None:
    new, old = corpus.file(case, 1).read_bytes(), corpus.file(case, 2).read_bytes()
    path = tmp_path / case.name
    path.write_bytes(old)
    with path.open("r+b") as file:
        written = 0
        for length in cuts(min(len(new), len(old))):
            file.write(new[written:length])
            file.flush()
            written = length
            if new[:length] + old[length:] not in (new, old):
                tally.holes[case.format] += 1
                finding = probe(path)
                assert finding.verdict is not Verdict.WHOLE, (length, finding.reason)


def test_no_file_of_the_installed_packages_is_refused() -> None:
    refused, seen = {}, 0
    for directory, _, names in os.walk(sysconfig.get_path("purelib")):
        for path in (Path(directory) / name for name in names):
            if path.is_file() and not path.is_symlink():
                finding = probe(path, content_budget=1 << 20)
                seen += 1
                if finding.verdict is Verdict.CUT or finding.reason.startswith(PROBE_FAILED):
                    refused[path] = finding.reason
    assert not refused
    assert seen > 1000
