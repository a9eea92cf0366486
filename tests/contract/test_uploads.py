"""What every store promises about multipart uploads, and about whole files built from them."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.contract.conftest import Place, content_of, part_of

from holdfast.checksum import crc64nvme
from holdfast.errors import AlreadyExistsError, FileChangedError, NotFoundError, StoreError
from holdfast.stop import StoppedError, StopToken
from holdfast.store import Absent, Part, Store, StoredPart
from holdfast.transfer import parts as parts_module
from holdfast.transfer import upload as transfer
from holdfast.transfer.download import Source, download_file
from holdfast.transfer.parallel import Transfer

MIB = 1 << 20
CONTENT = random.Random(5).randbytes(11 * MIB + 77)
WHOLE = crc64nvme(CONTENT)
CONTENTS = [CONTENT[: 5 * MIB], CONTENT[5 * MIB : 10 * MIB], CONTENT[10 * MIB :]]
FIRST = crc64nvme(CONTENTS[0])


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1), (3, 1, 2)])
def test_parts_may_come_in_any_order(place: Place, order: Sequence[int]) -> None:
    store = place.store
    upload = store.begin_upload("large/model", part_size=5 * MIB, metadata={"holdfast-attempt": "3"})
    parts = [store.put_part(upload, number, part_of(CONTENTS[number - 1])) for number in order]
    with pytest.raises(NotFoundError):
        store.head("large/model")
    etag = store.complete_upload(upload, sorted(parts, key=lambda part: part.number), crc64nvme=WHOLE)
    assert content_of(store, "large/model") == CONTENT
    info = store.head("large/model")
    assert (info.size, info.etag, info.metadata) == (len(CONTENT), etag, {"holdfast-attempt": "3"})
    assert place.unfinished() == 0


def test_a_part_stored_again_replaces_what_it_was(place: Place) -> None:
    store = place.store
    upload = store.begin_upload("k", part_size=5 * MIB)
    store.put_part(upload, 2, part_of(bytes(1000)))
    first = store.put_part(upload, 1, part_of(CONTENTS[0]))
    store.put_part(upload, 2, part_of(b"longer" * 1000))
    second = store.put_part(upload, 2, part_of(b"last"))
    store.complete_upload(upload, [first, second], crc64nvme=crc64nvme(CONTENTS[0] + b"last"))
    assert content_of(store, "k") == CONTENTS[0] + b"last"


def test_an_aborted_upload_leaves_nothing(place: Place) -> None:
    upload = place.store.begin_upload("k", part_size=5 * MIB)
    place.store.put_part(upload, 1, part_of(CONTENTS[0]))
    place.store.abort_upload(upload)
    place.store.abort_upload(upload)
    assert list(place.store.list("")) == []
    assert place.unfinished() == 0


@pytest.mark.needs("end of an upload")  # moto's server answers with 500
def test_an_aborted_upload_accepts_no_more_parts(place: Place) -> None:
    upload = place.store.begin_upload("k", part_size=5 * MIB)
    part = place.store.put_part(upload, 1, part_of(CONTENTS[0]))
    place.store.abort_upload(upload)
    with pytest.raises(NotFoundError):
        place.store.put_part(upload, 2, part_of(b"late"))
    with pytest.raises(NotFoundError):
        place.store.complete_upload(upload, [part], crc64nvme=FIRST)


@pytest.mark.needs("completion only if absent")
def test_a_conditional_completion_does_not_replace_an_object(place: Place) -> None:
    store = place.store
    upload = store.begin_upload("k", part_size=5 * MIB, metadata={"who": "late"})
    part = store.put_part(upload, 1, part_of(CONTENTS[0]))
    store.put("k", part_of(b"first"), metadata={"who": "first"})
    with pytest.raises(AlreadyExistsError):
        store.complete_upload(upload, [part], crc64nvme=FIRST, condition=Absent())
    assert content_of(store, "k") == b"first"
    assert store.head("k").metadata == {"who": "first"}
    store.abort_upload(upload)
    assert place.unfinished() == 0


def test_of_eight_conditional_completions_one_wins(place: Place) -> None:
    if place.server in ("moto", "radosgw"):
        pytest.skip("moto looks and completes in two steps, radosgw does not look: of eight at once, several win")
    contents = [bytes([number]) * 5 * MIB for number in range(8)]
    uploads = [place.store.begin_upload("k", part_size=5 * MIB) for _ in contents]
    parts = [
        place.store.put_part(upload, 1, part_of(content)) for upload, content in zip(uploads, contents, strict=True)
    ]
    start = threading.Barrier(8)

    def complete(number: int) -> bool:
        start.wait()
        part = parts[number]
        crc = crc64nvme(contents[number])
        try:
            place.store.complete_upload(uploads[number], [part], crc64nvme=crc, condition=Absent())
        except AlreadyExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        winners = [number for number, won in enumerate(threads.map(complete, range(8))) if won]
    assert len(winners) == 1
    assert content_of(place.store, "k") == contents[winners[0]]


def test_a_part_whose_file_changed_is_not_stored(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(CONTENTS[0])
    upload = place.store.begin_upload("k", part_size=5 * MIB)
    with pytest.raises(FileChangedError):
        place.store.put_part(upload, 1, Part(file, 0, 5 * MIB, crc64nvme(CONTENTS[1])))
    place.store.abort_upload(upload)
    assert place.unfinished() == 0


@pytest.mark.needs("wrong checksum of the whole refused")
def test_parts_with_another_checksum_than_announced_are_refused(store: Store) -> None:
    upload = store.begin_upload("k", part_size=5 * MIB)
    part = store.put_part(upload, 1, part_of(CONTENTS[0]))
    with pytest.raises(StoreError):
        store.complete_upload(upload, [part], crc64nvme=FIRST ^ 1)
    with pytest.raises(NotFoundError):
        store.head("k")


def test_a_part_that_was_never_stored_is_refused(store: Store) -> None:
    upload = store.begin_upload("k", part_size=5 * MIB)
    part = store.put_part(upload, 1, part_of(CONTENTS[0]))
    with pytest.raises(StoreError):
        store.complete_upload(upload, [part, StoredPart(2, part.etag, part.size, FIRST)], crc64nvme=0)
    with pytest.raises(NotFoundError):
        store.head("k")


@pytest.mark.needs("checksum of parts kept")
def test_a_description_has_the_checksum_of_the_whole(store: Store) -> None:
    upload = store.begin_upload("k", part_size=5 * MIB)
    parts = [store.put_part(upload, number, part_of(content)) for number, content in enumerate(CONTENTS, start=1)]
    store.complete_upload(upload, parts, crc64nvme=WHOLE)
    assert store.head("k").crc64nvme == WHOLE


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that needs several parts, the last one not full."""
    path = tmp_path_factory.mktemp("large") / "model.pt"
    block = random.Random(6).randbytes(MIB)
    with path.open("wb") as file:
        for number in range(transfer.SINGLE_PUT // MIB + 5):
            file.write(block[number:] + block[:number])
        file.write(b"the end")
    return path


@pytest.mark.parametrize("workers", [0, 3])
def test_a_large_file_is_uploaded_and_downloaded(place: Place, large: Path, tmp_path: Path, workers: int) -> None:
    sums = parts_module.checksum_file(large)
    sent: list[int] = []
    fetched: list[int] = []
    with ThreadPoolExecutor(workers or 1) as threads:
        pool = threads if workers else None
        up = Transfer(place.store, pool, progress=sent.append)
        etag = transfer.upload_file(up, "k", large, size=sums.size, metadata={"a": "b"}, condition=Absent())
        info = place.store.head("k")
        assert (info.size, info.etag, info.metadata) == (sums.size, etag, {"a": "b"})
        back = tmp_path / "back"
        source = Source(key="k", size=sums.size, etag=etag, crc64nvme=sums.whole)
        crc = download_file(Transfer(place.store, pool, progress=fetched.append), source, back)
    assert crc == sums.whole
    assert parts_module.checksum_file(back) == sums
    assert sum(sent) == sum(fetched) == sums.size
    assert place.unfinished() == 0


def test_an_upload_of_a_large_file_to_a_taken_key_is_not_begun(place: Place, large: Path) -> None:
    place.store.put("k", part_of(b"first"))
    sums = parts_module.checksum_file(large)
    with pytest.raises(AlreadyExistsError):
        transfer.upload_file(Transfer(place.store), "k", large, size=sums.size, condition=Absent())
    assert content_of(place.store, "k") == b"first"
    assert place.unfinished() == 0


def test_a_key_that_is_taken_during_an_upload_keeps_its_object(place: Place, large: Path) -> None:
    sums = parts_module.checksum_file(large)
    up = Transfer(place.store, progress=lambda _: place.intrude("k", b"another writer's"))
    with pytest.raises(AlreadyExistsError):
        transfer.upload_file(up, "k", large, size=sums.size, condition=Absent())
    assert content_of(place.store, "k") == b"another writer's"
    assert place.unfinished() == 0


def test_a_large_file_that_changes_during_its_upload_leaves_nothing(place: Place, large: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(large.read_bytes())
    sums = parts_module.checksum_file(copy)

    def change(_: int) -> None:
        with copy.open("r+b") as file:
            file.seek(-3, 2)
            file.write(b"END")

    with ThreadPoolExecutor(2) as threads, pytest.raises(FileChangedError):
        transfer.upload_file(Transfer(place.store, threads, progress=change), "k", copy, size=sums.size)
    assert list(place.store.list("")) == []
    assert place.unfinished() == 0


def test_an_upload_that_is_stopped_leaves_nothing(place: Place, large: Path) -> None:
    sums = parts_module.checksum_file(large)
    sent: list[int] = []
    stop = StopToken(when=lambda: len(sent) >= 2)
    with ThreadPoolExecutor(2) as threads, pytest.raises(StoppedError):
        transfer.upload_file(Transfer(place.store, threads, stop, sent.append), "k", large, size=sums.size)
    assert list(place.store.list("")) == []
    assert place.unfinished() == 0


def test_an_empty_file_is_uploaded_and_downloaded(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    sums = parts_module.checksum_file(tmp_path / "empty")
    etag = transfer.upload_file(Transfer(store), "k", tmp_path / "empty", size=0)
    source = Source(key="k", size=0, etag=etag, crc64nvme=sums.whole)
    assert download_file(Transfer(store), source, tmp_path / "back") == 0
    assert (tmp_path / "back").read_bytes() == b""
    with pytest.raises(NotFoundError):
        download_file(Transfer(store), Source(key="gone", size=0, crc64nvme=0), tmp_path / "gone")
    assert not (tmp_path / "gone").exists()
