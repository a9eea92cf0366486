"""A probe never raises, reads within limits, refuses only cut files, and calls only whole files whole."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.probes import Verdict, probe, probe_checkpoint
from holdfast.probes.one_file import PROBE_FAILED

NAMES = (
    "a.pt", "a.npz", "a.npy", "a.h5", "a.json", "a.ubj", "a.msgpack", "a.safetensors", "a.pkl", "a.joblib",
    "a.index", "a.gz", "a.bz2", "a.xz", "a.zst", "a.bin", "manifest.ocdbt", ".metadata",
    "_METADATA", "model.txt", "nothing",
)  # fmt: skip
# How files begin whose probes go deep.
HEADS = (
    b"", b"PK\x03\x04", b"PK\x05\x06", b"\x89HDF\r\n\x1a\n", b"\x0c\xdb\x3a\x2a",
    b"\x93NUMPY\x01\x00", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'shape': (", b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08",
    b"BZh9", b"\xfd7zXZ\0", b"x\x9c", b"\x80\x02", b"\x80\x04\x95", b"{", b'{"a": [', b"{L\0\0\0\0\0\0\0\x01a",
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", b"\x00\x00\x06\x08\x01\x1a\x02\x08\x01",
    b"\x10\0\0\0\0\0\0\0{\"",
)  # fmt: skip


def judge(directory: Path, name: str, content: bytes) -> Verdict:
    path = directory / name
    path.write_bytes(content)
    finding = probe(path)
    assert not finding.reason.startswith(PROBE_FAILED), (name, content, finding.reason)
    return finding.verdict


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("probes")


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=st.sampled_from(NAMES), head=st.sampled_from(HEADS), rest=st.binary(max_size=300))
def test_whatever_a_file_holds_a_probe_answers_and_does_not_call_it_whole(
    directory: Path, name: str, head: bytes, rest: bytes
) -> None:
    assert judge(directory, name, head + rest) is not Verdict.WHOLE or head[:2] in (b"PK", b"x\x9c", b"\x1f\x8b")


@settings(max_examples=300, deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=300),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
        max_leaves=20,
    ),
    protocol=st.sampled_from([2, 3, 4, 5]),
    part=st.floats(0, 1, exclude_max=True),
)
def test_every_cut_of_any_pickle_is_refused_and_no_pickle_is(
    directory: Path, value: object, protocol: int, part: float
) -> None:
    content = pickle.dumps(value, protocol)
    assert judge(directory, "a.pkl", content) is Verdict.UNKNOWN
    assert judge(directory, "a.pkl", content[: int(len(content) * part)]) is Verdict.CUT


@settings(max_examples=300, deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
        max_leaves=20,
    ),
    indent=st.sampled_from([None, 2]),
    plain=st.booleans(),
    part=st.floats(0, 1, exclude_max=True),
)
def test_every_cut_of_any_json_object_is_refused_and_no_object_is(
    directory: Path, value: object, indent: int | None, plain: bool, part: float
) -> None:
    content = json.dumps({"value": value}, indent=indent, ensure_ascii=plain).encode("utf-8", "surrogatepass")
    assert judge(directory, "a.json", content) is Verdict.UNKNOWN
    assert judge(directory, "a.json", content[: max(1, int(len(content) * part))]) is Verdict.CUT


@settings(max_examples=200, deadline=None)
@given(content=st.binary(min_size=1, max_size=400), flip=st.integers(0, 10**6))
def test_a_zip_archive_of_which_one_bit_changed_is_not_whole(directory: Path, content: bytes, flip: int) -> None:
    path = directory / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("first.npy", content)
        archive.writestr("second.npy", b"the same")
    assert probe(path).verdict is Verdict.WHOLE
    changed = bytearray(path.read_bytes())
    end = len(changed) - 22
    # What zipfile itself does not read either: times, versions and attributes, which no checksum covers.
    directory_at = struct.unpack_from("<I", changed, end + 16)[0]
    at = flip // 8 % directory_at
    changed[at] ^= 1 << flip % 8
    path.write_bytes(changed)
    if not any(header + 4 <= at < header + 6 or header + 10 <= at < header + 14 for header in local_headers(path)):
        assert probe(path).verdict is not Verdict.WHOLE, at


def local_headers(path: Path) -> list[int]:
    with zipfile.ZipFile(path) as archive:
        return [member.header_offset for member in archive.infolist()]


def test_the_end_record_of_an_archive_inside_another_is_not_its_end(tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner.npz", tmp_path / "outer.npz"
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("a", b"x" * 100)
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("first", b"y" * 50)
        archive.write(inner, "inner.npz")
    size = outer.stat().st_size
    assert probe(outer).verdict is Verdict.WHOLE
    verdicts = set()
    for length in range(size - 1, 0, -1):
        os.truncate(outer, length)
        verdicts.add(probe(outer).verdict)
    # Cut exactly where the inner archive ends, a reader would take the inner for an archive with something before it.
    assert verdicts == {Verdict.CUT, Verdict.UNKNOWN}


def test_what_is_appended_to_an_archive_makes_it_neither_cut_nor_whole(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a", b"x")
    with (tmp_path / "a.pt").open("ab") as file:
        file.write(b"more")
    assert probe(tmp_path / "a.pt").verdict is Verdict.UNKNOWN


def test_a_large_archive_is_not_read_to_its_end_and_so_not_called_whole(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a", bytes(5000))
    assert probe(tmp_path / "a.npz", content_budget=4999).verdict is Verdict.UNKNOWN
    assert probe(tmp_path / "a.npz", content_budget=5000).verdict is Verdict.WHOLE


def test_unpacking_stops_at_the_budget(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(10**8)))
    assert probe(tmp_path / "a.gz", content_budget=10**6).verdict is Verdict.UNKNOWN


def test_a_pickle_is_never_executed(tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            return os.system, (f"touch {tmp_path}/executed",)

    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Touch()))
    (tmp_path / ".metadata").write_bytes(pickle.dumps(Touch()))
    assert probe(tmp_path / "a.pkl").verdict is Verdict.UNKNOWN
    assert probe_checkpoint(tmp_path, [".metadata"]) == {}
    assert not (tmp_path / "executed").exists()


def test_a_pickle_that_asks_for_more_memory_than_there_is_gets_none(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"\x80\x05\x8e" + struct.pack("<Q", 1 << 60) + b"x" * 100)
    assert probe(tmp_path / "a.pkl").verdict is Verdict.CUT


@pytest.mark.parametrize("content", [b'{"a": 1} // said {', b"{% if a %}{{ b }", b"[section\nkey = {", b"12", b'"a'])
def test_what_is_only_named_json_is_unknown(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    assert probe(tmp_path / "a.json").verdict is Verdict.UNKNOWN


def test_json_lines_in_a_json_file_are_unknown(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"a": 1}\n{"a": 2}\n')
    assert probe(tmp_path / "a.json").verdict is Verdict.UNKNOWN


def test_a_string_across_the_chunks_in_which_json_is_read_is_one_string(tmp_path: Path) -> None:
    content = json.dumps({"a": '\\"{[' * 400_000, "b": [1]}).encode()
    (tmp_path / "a.json").write_bytes(content)
    assert probe(tmp_path / "a.json").verdict is Verdict.UNKNOWN
    (tmp_path / "a.json").write_bytes(content[:-1])
    assert probe(tmp_path / "a.json").verdict is Verdict.CUT


def test_json_beyond_the_budget_is_probed_at_its_last_bracket(tmp_path: Path) -> None:
    content = json.dumps([{"a": 1.5}] * 200_000).encode()
    (tmp_path / "a.json").write_bytes(content)
    assert probe(tmp_path / "a.json", content_budget=0).verdict is Verdict.UNKNOWN
    (tmp_path / "a.json").write_bytes(content[:-5])
    assert probe(tmp_path / "a.json", content_budget=0).verdict is Verdict.CUT


def test_an_empty_file_is_cut_where_its_name_says_what_it_should_be_and_else_unknown(tmp_path: Path) -> None:
    for name in ("a.pt", "a.safetensors", "a.npz", "a.h5", "pytorch_model.bin"):
        assert judge(tmp_path, name, b"") is Verdict.CUT, name
    for name in ("done", "a.txt", "a.bin", "latest", ".keep", "log.json"):
        assert judge(tmp_path, name, b"") is Verdict.UNKNOWN, name


def test_a_shard_is_not_probed_as_a_file_of_its_own(tmp_path: Path) -> None:
    for name in ("__0_0.distcp", "ckpt.data-00000-of-00001", "d" * 32):
        assert judge(tmp_path, name, b"PK\x03\x04 and what follows") is Verdict.UNKNOWN


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        probe(tmp_path / "missing.pt")


def test_an_index_that_is_left_over_beside_a_single_file_proves_nothing(tmp_path: Path) -> None:
    """Hugging Face's save_pretrained leaves the index of a larger model beside the single file of a smaller one."""
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    names = ["model.safetensors.index.json", "model.safetensors"]
    assert probe_checkpoint(tmp_path, names) == {}
    assert probe_checkpoint(tmp_path, names[:1]).keys() == {"model.safetensors.index.json"}


def test_an_index_that_names_files_elsewhere_proves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.index.json").write_text('{"weight_map": {"a": "/models/x.bin", "b": "../x.bin", "c": 7, "d": null}}')
    assert probe_checkpoint(tmp_path, ["a.index.json"]) == {}


def test_numbered_shards_of_which_some_are_missing_are_refused_where_no_other_host_writes(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    names = [f"c/model-0000{number}-of-00003.safetensors" for number in (1, 3)]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert probe_checkpoint(tmp_path, names) == {names[0]: "2 of 3 shards, and no index"}
    assert probe_checkpoint(tmp_path, names, alone=False) == {}


def test_data_left_over_from_a_deletion_at_the_top_level_proves_nothing(tmp_path: Path) -> None:
    assert probe_checkpoint(tmp_path, ["ckpt-1.data-00000-of-00001"]) == {}
    assert probe_checkpoint(tmp_path, ["a/ckpt-1.data-00000-of-00001"]) != {}


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=300), head=st.sampled_from(HEADS))
def test_whatever_an_index_holds_a_probe_of_the_set_answers(directory: Path, content: bytes, head: bytes) -> None:
    names = ["s/.metadata", "s/a.index", "s/model.safetensors.index.json", "s/_METADATA", "s/_CHECKPOINT_METADATA"]
    (directory / "s").mkdir(exist_ok=True)
    for name in names:
        (directory / name).write_bytes(head + content)
    assert set(probe_checkpoint(directory, names)) <= set(names)


def test_other_formats_under_the_suffix_of_messagepack_are_unknown(tmp_path: Path) -> None:
    assert judge(tmp_path, "a.msgpack", b"torch-2.13.0.whl" + bytes(100) + b"\xc8\0") is Verdict.UNKNOWN
