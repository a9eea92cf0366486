"""What only a directory store must handle: a file system, and other programs that write there."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.checksum import crc64nvme
from holdfast.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    DamagedError,
    NoBucketError,
    NotFoundError,
    PermanentStoreError,
    StoreError,
    TransientStoreError,
)
from holdfast.store import Absent, Condition, Content, Part, Replaces, Upload
from holdfast.store.body import write_part
from holdfast.store.directory import lock as directory_lock
from holdfast.store.directory.ranges import copy_range
from holdfast.store.directory.store import DirectoryStore
from holdfast.store.location import parse
from holdfast.store.open import open_store
from holdfast.store.os_errors import os_error

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
     ".holdfast/tmp/x", ".holdfast/metadata/x", ".holdfast/uploads/x", ".holdfast/locks/x", ".holdfast/tmp"],
)  # fmt: skip
def test_a_key_that_is_not_a_path_below_the_root_is_refused(root: Path, key: str) -> None:
    store = DirectoryStore(root)
    for ask in (
        lambda: store.put(key, BYTES),
        lambda: store.begin_upload(key, part_size=5),
        lambda: store.head(key),
        lambda: store.read(key, sink=lambda piece: None),
        lambda: store.delete(key),
        lambda: store.copy(Content(key, "", 0, 0), "k"),
    ):
        with pytest.raises(PermanentStoreError):
            ask()
    assert names_in(root) == []
    assert names_in(root.parent) == ["root"]


def test_a_link_does_not_lead_out_and_is_not_an_object(root: Path) -> None:
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


def test_a_pipe_is_not_an_object(root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()
    store = DirectoryStore(root)
    assert list(store.list("")) == []
    for key in ("pipe", "folder"):
        with pytest.raises(NotFoundError, match="not a file"):
            store.head(key)


def test_a_directory_and_an_object_cannot_have_one_path(root: Path) -> None:
    store = DirectoryStore(root)
    store.put("a/b", BYTES)
    for condition in (None, Absent()):
        with pytest.raises(PermanentStoreError):
            store.put("a", BYTES, metadata={"x": "y"}, condition=condition)
        with pytest.raises(PermanentStoreError):
            store.put("a/b/c", BYTES, condition=condition)
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
        open_store(parse(f"file://{tmp_path}/not/there", name="URI"), {}).check()
    with pytest.raises(NoBucketError, match="not a directory"):
        open_store(parse(f"file://{tmp_path}/file", name="URI"), {}).check()
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


def test_the_error_of_a_full_file_system_says_so() -> None:
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


def test_temporary_files_are_not_listed(root: Path) -> None:
    for place in ("tmp", "metadata", "uploads/id"):
        (root / ".holdfast" / place).mkdir(parents=True)
        (root / ".holdfast" / place / "left").touch()
    (root / ".holdfast/commits").mkdir()
    (root / ".holdfast/commits/000001-000001.json").touch()
    assert [info.key for info in DirectoryStore(root).list("")] == [".holdfast/commits/000001-000001.json"]
    assert list(DirectoryStore(root).list(".holdfast/tmp/")) == []


# Copies


def copy(store: DirectoryStore, source: str, key: str, *, size: int = 5, condition: Condition | None = None) -> str:
    return store.copy(Content(source, store.head(source).etag, size, BYTES.crc64nvme), key, condition=condition)


def test_a_copy_of_more_bytes_than_there_are_is_refused(root: Path) -> None:
    store = DirectoryStore(root)
    store.put("from", BYTES)
    with pytest.raises(DamagedError, match="ends after 5 of 6"):
        copy(store, "from", "to", size=6)
    with pytest.raises(DamagedError, match="CRC64NVME"):
        copy(store, "from", "to", size=4)
    assert [info.key for info in store.list("")] == ["from"]
    assert names_in(root / ".holdfast/tmp") == []


@pytest.mark.parametrize("key", ["../out", "a//b", ".holdfast/tmp/x", "from/below"])
def test_nothing_is_copied_to_a_key_that_is_not_a_path(root: Path, key: str) -> None:
    store = DirectoryStore(root)
    store.put("from", BYTES)
    with pytest.raises(PermanentStoreError):
        copy(store, "from", key)
    assert [info.key for info in store.list("")] == ["from"]
    assert names_in(root / ".holdfast/tmp") == []


def test_a_copy_whose_condition_does_not_hold_leaves_nothing(root: Path) -> None:
    store = DirectoryStore(root)
    store.put("from", BYTES)
    (root / "folder").mkdir()
    for key in ("to", "folder"):
        with pytest.raises(AlreadyExistsError):
            copy(store, "from", key, condition=Replaces('"e"'))
    assert names_in(root) == [".holdfast", "folder", "from"]
    assert names_in(root / ".holdfast/tmp") == []


def test_bytes_go_through_this_process_where_the_kernel_does_not_copy(tmp_path: Path) -> None:
    content = os.urandom((3 << 20) + 5)
    descriptor = os.memfd_create("another file system")
    os.write(descriptor, content)
    with (tmp_path / "target").open("w+b") as target:
        with pytest.raises(OSError, match="cross-device"):  # the kernel of this machine does not copy between these two
            os.copy_file_range(descriptor, target.fileno(), 1, 0, 0)
        crc = copy_range(descriptor, target.fileno(), tmp_path, offset=5, size=3 << 20, to=7)
    os.close(descriptor)
    assert (tmp_path / "target").read_bytes() == bytes(7) + content[5:]
    assert crc == crc64nvme(content[5:])


# Files of killed processes


def test_a_temporary_file_of_a_killed_process_is_found_and_deleted(root: Path) -> None:
    store = DirectoryStore(root)
    script = """
import pathlib, resource, signal, sys
from holdfast.store.directory.store import DirectoryStore
from holdfast.store import Part
store = DirectoryStore(pathlib.Path(sys.argv[1]))
store.put_part(store.begin_upload("large", part_size=5), 2, Part(b"12345", 0, 5, int(sys.argv[2])))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # killed by the first byte beyond the limit
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
store.put("small", Part(bytes(3 << 20), 0, 3 << 20, 0))
"""
    before = time.time()
    ended = subprocess.run([sys.executable, "-c", script, str(root), str(BYTES.crc64nvme)])
    assert ended.returncode == -signal.SIGXFSZ
    found = list(store.unfinished_uploads())
    assert [entry.upload.key for entry in found] == ["large", ""]
    assert all(before - 2 <= entry.began <= time.time() + 2 for entry in found)
    for entry in found:
        store.abort_upload(entry.upload)
        store.abort_upload(entry.upload)
    assert list(store.unfinished_uploads()) == []
    assert names_in(root / ".holdfast/tmp") == names_in(root / ".holdfast/uploads") == []


def test_an_upload_whose_key_was_not_written_is_found_too(root: Path) -> None:
    (root / ".holdfast/uploads/id").mkdir(parents=True)
    store = DirectoryStore(root)
    (found,) = store.unfinished_uploads()
    assert found.upload == Upload("", "id")
    store.abort_upload(found.upload)
    assert list(store.unfinished_uploads()) == []


def test_parts_that_do_not_fit_together_are_refused_with_the_reason(root: Path) -> None:
    store = DirectoryStore(root)
    upload = store.begin_upload("k", part_size=5)
    part = store.put_part(upload, 1, BYTES)
    for parts, crc, said in (
        ([part], 0, "checksum"),
        ([part, replace(part, number=3)], 0, "numbered"),
        ([part, replace(part, number=2, size=6)], 0, "same size"),
        ([part, replace(part, number=2)], crc64nvme(b"1234512345"), "part 2 .* never stored"),
    ):
        with pytest.raises(PermanentStoreError, match=said):
            store.complete_upload(upload, parts, crc64nvme=crc)


def test_a_part_that_reaches_into_the_next_one_is_refused(root: Path) -> None:
    store = DirectoryStore(root)
    upload = store.begin_upload("k", part_size=5)
    second = store.put_part(upload, 2, BYTES)
    with pytest.raises(PermanentStoreError, match="part 1 of 'k' has 6 bytes"):
        store.put_part(upload, 1, Part(b"678901", 0, 6, crc64nvme(b"678901")))
    first = store.put_part(upload, 1, Part(b"67890", 0, 5, crc64nvme(b"67890")))
    store.complete_upload(upload, [first, second], crc64nvme=crc64nvme(b"6789012345"))


REPLACES = """
import os, sys
from pathlib import Path
from holdfast.store import Content, Replaces
from holdfast.store.directory.store import DirectoryStore

replace = os.replace

def sleep_first(*args):
    print("looked", flush=True)
    sys.stdin.readline()
    replace(*args)

os.replace = sleep_first  # pathlib's too: it sleeps between the check and the rename
store = DirectoryStore(Path(sys.argv[1]))
there = store.head("there")
source = Content("zombie's", store.head("zombie's").etag, 5, int(sys.argv[2]))
store.copy(source, "there", condition=Replaces(there.etag))
"""


@pytest.fixture
def asleep(root: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has checked the object that it replaces, and sleeps until it gets a line."""
    store = DirectoryStore(root)
    for key in ("there", "zombie's", "successor's"):
        store.put(key, BYTES)
    command = [sys.executable, "-c", REPLACES, str(root), str(BYTES.crc64nvme)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "looked\n"
        try:
            yield process
        finally:
            process.kill()


def replace_there(store: DirectoryStore) -> str:
    return copy(store, "successor's", "there", condition=Replaces(store.head("there").etag))


def test_between_check_and_rename_no_other_process_replaces_or_deletes_the_object(
    root: Path, asleep: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_lock, "WAIT_SECONDS", 0.2)
    store = DirectoryStore(root)
    before = store.head("there").etag
    with pytest.raises(TransientStoreError, match="locked by another process"):
        replace_there(store)
    with pytest.raises(TransientStoreError, match="locked by another process"):
        store.delete("there", etag=before)
    assert store.head("there").etag == before
    assert store.put("elsewhere", BYTES, condition=Absent()), "a commit does not wait"
    store.delete("elsewhere")
    asleep.communicate("go on\n")
    assert asleep.returncode == 0
    assert store.head("there").etag not in (before, replace_there(store))
    assert [info.key for info in store.list("")] == ["successor's", "there", "zombie's"]


def test_a_process_that_is_killed_in_between_frees_the_lock(root: Path, asleep: subprocess.Popen[str]) -> None:
    store = DirectoryStore(root)
    asleep.kill()
    asleep.wait()
    assert replace_there(store) == store.head("there").etag


def test_where_the_file_system_has_no_locks_check_and_write_are_two_steps(
    root: Path, asleep: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    store = DirectoryStore(root)
    assert replace_there(store) == store.head("there").etag


def test_threads_of_one_process_wait_for_each_other(root: Path) -> None:
    store = DirectoryStore(root)
    store.put("there", BYTES)
    store.put("successor's", BYTES)
    with ThreadPoolExecutor(8) as workers:
        outcomes = [workers.submit(replace_there, store) for _ in range(40)]
    errors = [outcome.exception() for outcome in outcomes]
    assert all(error is None or isinstance(error, AlreadyExistsError) for error in errors)
    assert None in errors
