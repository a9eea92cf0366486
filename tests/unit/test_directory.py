"""What only a directory store has to get right: a file system under it, and others who write there."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from holdfast.body import os_error, write_part
from holdfast.checksum import crc64nvme
from holdfast.directory import DirectoryStore
from holdfast.errors import (
    AccessDeniedError,
    DamagedError,
    NoBucketError,
    NotFoundError,
    PermanentStoreError,
    StoreError,
    TransientStoreError,
)
from holdfast.location import parse
from holdfast.opening import open_store
from holdfast.store import Part

BYTES = Part(b"12345", 0, 5, crc64nvme(b"12345"))


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.mark.parametrize(
    "key",
    ["", "/", "..", "../out", "a/../../out", "a/./b", "a//b", "/absolute", "a/", "nul\0byte",
     ".holdfast/tmp/x", ".holdfast/metadata/x", ".holdfast/uploads/x", ".holdfast/tmp"],
)  # fmt: skip
def test_a_key_that_is_no_name_below_the_root_is_refused(root: Path, key: str) -> None:
    store = DirectoryStore(root)
    for ask in (
        lambda: store.put(key, BYTES),
        lambda: store.begin_upload(key),
        lambda: store.head(key),
        lambda: store.read(key, sink=lambda piece: None),
        lambda: store.delete(key),
    ):
        with pytest.raises(PermanentStoreError):
            ask()
    assert names_in(root) == []
    assert names_in(root.parent) == ["root"]


def test_a_link_does_not_lead_out_and_is_no_object(root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("x")
    (root / "door").symlink_to(outside)
    (root / "window").symlink_to(outside / "secret")
    store = DirectoryStore(root)
    assert list(store.list("")) == list(store.list("door/")) == []
    with pytest.raises(PermanentStoreError, match="leads out"):
        store.put("door/in", BYTES)
    with pytest.raises(PermanentStoreError, match="leads out"):
        store.head("door/secret")
    with pytest.raises(NotFoundError):
        store.head("window")
    store.put("window", BYTES)
    assert (outside / "secret").read_text() == "x"
    assert (root / "window").read_text() == "12345"


def test_what_is_neither_file_nor_directory_is_no_object(root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()
    store = DirectoryStore(root)
    assert list(store.list("")) == []
    for key in ("pipe", "folder"):
        with pytest.raises(NotFoundError, match="not a file"):
            store.head(key)


def test_a_directory_is_in_the_way_of_a_file_and_the_other_way_round(root: Path) -> None:
    store = DirectoryStore(root)
    store.put("a/b", BYTES)
    for only_if_absent in (False, True):
        with pytest.raises(PermanentStoreError):
            store.put("a", BYTES, metadata={"x": "y"}, only_if_absent=only_if_absent)
        with pytest.raises(PermanentStoreError):
            store.put("a/b/c", BYTES, only_if_absent=only_if_absent)
    with pytest.raises(PermanentStoreError):
        store.delete("a")
    assert [info.key for info in store.list("")] == ["a/b"]
    assert names_in(root / ".holdfast/tmp") == []
    assert not (root / ".holdfast/metadata").exists() or names_in(root / ".holdfast/metadata") == []


def test_the_last_component_of_the_root_is_made_by_the_first_write(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "new")
    store.check()
    assert list(store.list("")) == []
    with pytest.raises(NotFoundError):
        store.head("k")
    assert not (tmp_path / "new").exists()
    store.put("k", BYTES)
    assert (tmp_path / "new/k").read_text() == "12345"


def test_a_root_whose_parent_is_missing_or_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NoBucketError, match="mount or create it"):
        open_store(parse(f"file://{tmp_path}/not/there", name="URI"), {})
    with pytest.raises(NoBucketError, match="not a directory"):
        open_store(parse(f"file://{tmp_path}/file", name="URI"), {})
    with pytest.raises(NoBucketError):
        DirectoryStore(tmp_path / "not/there").put("k", BYTES)
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (errno.EIO, TransientStoreError, ""),
        (errno.ESTALE, TransientStoreError, ""),
        (errno.ENOSPC, PermanentStoreError, "make room"),
        (errno.EDQUOT, PermanentStoreError, "quota"),
        (errno.EROFS, PermanentStoreError, "writable"),
        (errno.EACCES, AccessDeniedError, "allow user"),
        (errno.ENAMETOOLONG, PermanentStoreError, ""),
    ],
)
def test_an_error_of_the_file_system_names_the_path_and_what_helps(
    number: int, kind: type[StoreError], said: str
) -> None:
    found = os_error(OSError(number, os.strerror(number)), Path("/mnt/efs/model"), "write")
    assert type(found) is kind
    assert "cannot write /mnt/efs/model" in str(found)
    assert said in str(found)


def test_a_full_file_system_is_said_to_be_full() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(PermanentStoreError, match=r"No space left.*make room"):
            write_part(BYTES, descriptor, Path("/dev/full"), 0)
    finally:
        os.close(descriptor)


def test_a_name_longer_than_names_may_be_is_refused(root: Path) -> None:
    with pytest.raises(PermanentStoreError, match="File name too long"):
        DirectoryStore(root).put("x" * 256, BYTES, metadata={"a": "b"})
    assert names_in(root / ".holdfast/tmp") == []


def test_metadata_that_does_not_parse_is_an_error_that_names_its_file(root: Path) -> None:
    store = DirectoryStore(root)
    store.put("k", BYTES, metadata={"a": "b"})
    (kept,) = (root / ".holdfast/metadata").iterdir()
    assert json.loads(kept.read_text())["key"] == "k"
    kept.write_text("{")
    with pytest.raises(PermanentStoreError, match=str(kept)):
        store.head("k")


def test_metadata_goes_when_its_object_goes(root: Path) -> None:
    store = DirectoryStore(root)
    for _ in range(3):
        store.put("k", BYTES, metadata={"a": "b"})
    assert len(names_in(root / ".holdfast/metadata")) == 1
    store.delete("k")
    assert names_in(root / ".holdfast/metadata") == []


def test_a_file_that_is_written_to_while_it_is_read_is_noticed(root: Path) -> None:
    (root / "k").write_bytes(bytes(3 << 20))
    store = DirectoryStore(root)
    etag = store.head("k").etag

    def write_again(_: memoryview) -> None:
        with (root / "k").open("r+b") as file:
            file.write(b"x")
        os.utime(root / "k", ns=(1, 1))

    with pytest.raises(DamagedError, match="no longer"):
        store.read("k", etag=etag, sink=write_again)


def test_a_file_that_is_cut_while_it_is_read_is_noticed(root: Path) -> None:
    (root / "k").write_bytes(bytes(3 << 20))
    with pytest.raises(TransientStoreError, match="ended after"):
        DirectoryStore(root).read("k", sink=lambda piece: os.truncate(root / "k", 10))


def test_files_that_others_left_on_their_way_are_not_listed(root: Path) -> None:
    for place in ("tmp", "metadata", "uploads/id"):
        (root / ".holdfast" / place).mkdir(parents=True)
        (root / ".holdfast" / place / "left").touch()
    (root / ".holdfast/snapshots").mkdir()
    (root / ".holdfast/snapshots/000001-000001.json").touch()
    assert [info.key for info in DirectoryStore(root).list("")] == [".holdfast/snapshots/000001-000001.json"]
    assert list(DirectoryStore(root).list(".holdfast/tmp/")) == []
