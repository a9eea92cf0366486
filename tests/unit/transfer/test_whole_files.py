"""Checksums and parts of whole files, and what an error leaves of a file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.servers import Answer, ScriptedServer, error

from holdfast.checksum import crc64nvme
from holdfast.errors import (
    DamagedError,
    DiskFullError,
    FileChangedError,
    NotFoundError,
    PermanentStoreError,
    StoreError,
    TransientStoreError,
)
from holdfast.stop import StoppedError, StopToken
from holdfast.store import Part
from holdfast.store.directory.store import DirectoryStore
from holdfast.store.location import Location
from holdfast.store.s3.settings import from_environ
from holdfast.store.s3.store import S3Store
from holdfast.transfer import parts, upload
from holdfast.transfer import parts as parts_module
from holdfast.transfer.download import Source, download_file
from holdfast.transfer.parallel import Transfer

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    (tmp_path / "store").mkdir()
    return DirectoryStore(tmp_path / "store")


def stopped(store: DirectoryStore) -> Transfer:
    return Transfer(store, stop=StopToken(when=lambda: True))


def kept(store: DirectoryStore, key: str, content: bytes) -> str:
    return store.put(key, Part.of(content))


@pytest.mark.parametrize(
    "size", [1, 16 * MIB, 64 * MIB, 10_000 * 16 * MIB, 10_000 * 16 * MIB + 1, 5 << 40, (5 << 40) - 12345]
)
def test_parts_are_large_enough_for_s3_and_few_enough(size: int) -> None:
    step = parts.part_size(size)
    assert step % MIB == 0
    assert step >= 5 * MIB
    assert -(-size // step) <= 10_000


@pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1, 16 * MIB, 16 * MIB + 1, 40 * MIB])
def test_one_reading_gives_the_checksum_of_the_whole_and_of_each_part(tmp_path: Path, size: int) -> None:
    content = (b"0123456789abcdef" * 65537 * 40)[:size]
    (tmp_path / "file").write_bytes(content)
    sums = parts_module.checksum_file(tmp_path / "file", size=size)
    assert (sums.size, sums.whole) == (size, crc64nvme(content))
    assert sums.parts == tuple(crc64nvme(content[start : start + 16 * MIB]) for start in range(0, size, 16 * MIB))


def test_a_file_that_is_not_what_it_was_is_not_summed_up(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    with pytest.raises(FileChangedError, match="5 bytes, and had 4"):
        parts_module.checksum_file(tmp_path / "file", size=4)
    for path in (tmp_path / "gone", tmp_path / "file/below"):
        with pytest.raises(FileChangedError, match="gone"):
            parts_module.checksum_file(path)
    with pytest.raises(StoreError, match=str(tmp_path)):
        parts_module.checksum_file(tmp_path)


def test_a_file_that_grows_or_shrinks_under_the_reading_is_not_summed_up(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for change in (lambda: os.truncate(file, 40 * MIB), lambda: os.truncate(file, 17 * MIB)):
        file.write_bytes(bytes(33 * MIB))
        asked: list[None] = []

        def answer(change: object = change, asked: list[None] = asked) -> bool:
            asked.append(None)
            if len(asked) == 2:
                assert callable(change)
                change()
            return False

        with pytest.raises(FileChangedError):
            parts_module.checksum_file(file, stop=StopToken(when=answer))


def test_a_reading_can_be_stopped(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    with pytest.raises(StoppedError):
        parts_module.checksum_file(tmp_path / "file", stop=StopToken(when=lambda: True))


@pytest.mark.parametrize("size", [5, 2 * MIB, upload.SINGLE_PUT])
def test_an_upload_must_be_of_a_file_as_large_as_was_said(store: DirectoryStore, tmp_path: Path, size: int) -> None:
    for there in (size - 1, size + 1):
        with (tmp_path / "file").open("wb") as sparse:
            sparse.truncate(there)
        with pytest.raises(FileChangedError):
            upload.upload_file(Transfer(store), "k", tmp_path / "file", size=size)
    (tmp_path / "file").unlink()
    with pytest.raises(FileChangedError, match="gone"):
        upload.upload_file(Transfer(store), "k", tmp_path / "file", size=size)
    with pytest.raises(StoppedError):
        upload.upload_file(stopped(store), "k", tmp_path / "file", size=size)
    with pytest.raises(NotFoundError):
        store.head("k")
    assert list(store.unfinished_uploads()) == []


def test_a_failed_upload_drops_its_parts_and_says_when_it_could_not(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("wb") as sparse:
        sparse.truncate(upload.SINGLE_PUT)
    sums = parts_module.checksum_file(file)
    begun = Answer(body=b"<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>")
    for last, notes in ((Answer(204), 0), (error(403, "AccessDenied"), 1)):
        with ScriptedServer(begun, error(400, "EntityTooLarge"), last) as server:
            s3 = S3Store(Location("s3", "data", ""), from_environ(server.environ()))
            with pytest.raises(PermanentStoreError, match="EntityTooLarge") as caught:
                upload.upload_file(Transfer(s3), "k", file, size=sums.size)
        assert server.asked == ["POST /data/k", "PUT /data/k", "DELETE /data/k"]
        assert len(getattr(caught.value, "__notes__", [])) == notes


def test_a_download_is_checked_and_leaves_no_file_behind_when_it_is_wrong(
    store: DirectoryStore, tmp_path: Path
) -> None:
    content = b"12345" * 7_000_000
    etag = kept(store, "k", content)
    target = tmp_path / "target"
    good = crc64nvme(content)
    with ThreadPoolExecutor(3) as threads:
        for workers in (None, threads):
            with pytest.raises(DamagedError, match="instead of 0000000000000001"):
                download_file(
                    Transfer(store, workers), Source(key="k", size=len(content), etag=etag, crc64nvme=1), target
                )
            assert not target.exists()
            crc = download_file(Transfer(store, workers), Source(key="k", size=len(content), etag=etag), target)
            assert crc == good
            assert target.read_bytes() == content


def test_a_download_of_something_else_leaves_no_file_behind(store: DirectoryStore, tmp_path: Path) -> None:
    target = tmp_path / "target"
    etag = kept(store, "k", b"12345")
    kept(store, "k", b"67890")
    with pytest.raises(DamagedError, match="no longer"):
        download_file(Transfer(store), Source(key="k", size=5, etag=etag), target)
    with pytest.raises(TransientStoreError):
        download_file(Transfer(store), Source(key="k", size=6), target)
    with pytest.raises(NotFoundError):
        download_file(Transfer(store), Source(key="gone", size=5), target)
    with pytest.raises(StoppedError):
        download_file(stopped(store), Source(key="k", size=5), target)
    assert not target.exists()


def test_a_download_replaces_a_longer_file(store: DirectoryStore, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"much longer than it")
    etag = kept(store, "k", b"12345")
    download_file(Transfer(store), Source(key="k", size=5, etag=etag), tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"12345"


def test_a_place_that_cannot_be_written_is_named(store: DirectoryStore, tmp_path: Path) -> None:
    etag = kept(store, "k", b"12345")
    with pytest.raises(PermanentStoreError, match=str(tmp_path / "no/target")):
        download_file(Transfer(store), Source(key="k", size=5, etag=etag), tmp_path / "no/target")


def test_a_full_disk_shows_before_the_first_byte_travels(store: DirectoryStore, tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(DiskFullError, match=f"{tmp_path} has no room"):
        # There is no such object: a request would have raised another error.
        download_file(Transfer(store), Source(key="gone", size=free + (1 << 40)), tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_parts_travel_side_by_side(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("wb") as sparse:
        sparse.truncate(upload.SINGLE_PUT)
    sums = parts_module.checksum_file(file)
    together = threading.Barrier(4, timeout=60)

    def answer_together(_: object) -> Answer:
        together.wait()  # raises, and fails the test, unless four parts are in flight at a time
        return Answer(headers={"ETag": '"p"'})

    begun = Answer(body=b"<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>")
    done = Answer(body=b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>")
    with ScriptedServer(begun, *[answer_together] * 4, done) as server, ThreadPoolExecutor(4) as threads:
        s3 = S3Store(Location("s3", "data", ""), from_environ(server.environ()))
        assert upload.upload_file(Transfer(s3, threads), "k", file, size=sums.size) == '"e"'


def test_memory_is_bounded_however_large_the_file(tmp_path: Path) -> None:
    code = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from holdfast.transfer import parts
from holdfast.transfer.download import Source, download_file
from holdfast.transfer.parallel import Transfer
from holdfast.transfer.upload import upload_file
from holdfast.store.directory.store import DirectoryStore
root = Path(sys.argv[1])
with (root / "file").open("wb") as sparse:
    sparse.truncate(400 << 20)
store = DirectoryStore(root / "store")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with ThreadPoolExecutor(4) as threads:
    sums = parts.checksum_file(root / "file")
    transfer = Transfer(store, threads)
    etag = upload_file(transfer, "k", root / "file", size=sums.size)
    download_file(transfer, Source(key="k", size=sums.size, etag=etag, crc64nvme=sums.whole), root / "back")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 64
