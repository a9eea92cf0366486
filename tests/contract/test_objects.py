"""What every store promises about single objects."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from tests.contract.conftest import Place, content_of, part_of

from holdfast.checksum import crc64nvme, to_base64
from holdfast.errors import (
    AlreadyExistsError,
    DamagedError,
    FileChangedError,
    NoBucketError,
    NotFoundError,
    TransientStoreError,
)
from holdfast.store import Absent, Part, Store

ODD_KEYS = [
    "plain.pt",
    "deep/er/and deeper/model.pt",
    "with space and  two",
    "percent%20 100% %zz",
    "plus+plus",
    "hash#mark?question&and=equals;semi:colon@at,comma",
    "quote'double\"back\\slash",
    "brackets[1]{2}(3)<4>|~^`*!$",
    "tab\there",
    "übergröße/模型/модель/🦀.pt",
    "e\u0301 is not \u00e9",
    ".hidden/..almost/...dots",
    "trailing space ",
    "/".join(["x" * 199] * 5),
]


@pytest.mark.parametrize("content", [b"", b"\0", b"some bytes \r\n\xff", bytes(range(256)) * 10_000])
def test_bytes_are_read_as_they_were_stored(store: Store, content: bytes) -> None:
    etag = store.put("a/b", part_of(content))
    assert content_of(store, "a/b") == content
    info = store.head("a/b")
    assert (info.key, info.size, info.etag) == ("a/b", len(content), etag)


@pytest.mark.parametrize("key", ODD_KEYS)
def test_any_name_a_file_can_have_is_a_key(store: Store, key: str) -> None:
    store.put(key, part_of(key.encode()), metadata={"holdfast-attempt": "1"})
    assert content_of(store, key) == key.encode()
    assert store.head(key).metadata == {"holdfast-attempt": "1"}
    assert [info.key for info in store.list("")] == [key]
    store.delete(key)
    assert list(store.list("")) == []


@pytest.mark.needs("newline in a key")  # moto's server routes no request whose path has one
def test_a_newline_in_a_name_is_a_name(place: Place) -> None:
    place.store.put("line\nfeed", part_of(b"x"))
    assert [info.key for info in place.store.list("")] == ["line\nfeed"]
    assert content_of(place.store, "line\nfeed") == b"x"


def test_a_range_of_a_file_is_stored_not_the_file(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(range(200)))
    store.put("range", Part(file, 50, 100, crc64nvme(bytes(range(50, 150)))))
    assert content_of(store, "range") == bytes(range(50, 150))


def test_a_listing_and_a_head_agree(store: Store) -> None:
    before = time.time()
    store.put("a", part_of(b"12345"), metadata={"name": "value"})
    (listed,) = store.list("")
    described = store.head("a")
    assert listed.metadata is None
    # A listing has no checksums.
    assert replace(described, metadata=None, modified=0, crc64nvme=None) == replace(listed, modified=0)
    # HTTP dates have whole seconds.
    assert abs(listed.modified - before) < 60
    assert abs(listed.modified - described.modified) <= 1


def test_an_overwrite_replaces_content_metadata_and_etag(store: Store) -> None:
    first = store.put("k", part_of(b"first"), metadata={"version": "1", "only": "here"})
    second = store.put("k", part_of(b"the second"), metadata={"version": "2"})
    assert first != second
    assert content_of(store, "k") == b"the second"
    assert store.head("k").metadata == {"version": "2"}
    assert store.head("k").etag == second


def test_an_object_of_another_writer_has_no_metadata(place: Place) -> None:
    place.intrude("theirs", b"foreign")
    assert place.store.head("theirs").metadata == {}
    etag = place.store.put("ours", part_of(b"ours"), metadata={"holdfast-attempt": "7"})
    place.intrude("ours", b"now theirs")
    info = place.store.head("ours")
    assert info.metadata == {}
    assert info.etag != etag


def test_metadata_is_kept_as_it_was_given(store: Store) -> None:
    metadata = {"holdfast-attempt": "12", "note": 'two  words = 1; "quoted"', "empty": "x"}
    store.put("k", part_of(b"x"), metadata=metadata)
    kept = store.head("k").metadata
    assert kept is not None
    assert {name: " ".join(value.split()) for name, value in kept.items()} == {
        name: " ".join(value.split()) for name, value in metadata.items()
    }


@pytest.mark.needs("checksum kept")
def test_a_description_has_the_checksum_of_the_content(store: Store) -> None:
    store.put("k", part_of(b"12345"))
    assert store.head("k").crc64nvme == crc64nvme(b"12345")


@pytest.mark.needs("wrong checksum refused")
def test_the_server_refuses_bytes_that_are_not_what_their_checksum_says(place: Place) -> None:
    if place.send_damaged is None:
        pytest.skip("a directory has no wire on which bytes are damaged")
    with pytest.raises(ClientError):
        place.send_damaged("k", b"12345", to_base64(crc64nvme(b"54321")))
    with pytest.raises(NotFoundError):
        place.store.head("k")


def test_a_conditional_write_does_not_replace_an_object(store: Store) -> None:
    store.put("k", part_of(b"first"), metadata={"who": "first"}, condition=Absent())
    with pytest.raises(AlreadyExistsError):
        store.put("k", part_of(b"second"), metadata={"who": "second"}, condition=Absent())
    assert content_of(store, "k") == b"first"
    assert store.head("k").metadata == {"who": "first"}


def test_of_sixteen_conditional_writers_one_wins_and_its_object_is_whole(place: Place) -> None:
    start = threading.Barrier(16)

    def write(number: int) -> bool:
        start.wait()
        try:
            part = part_of(b"%02d" % number * 1000)
            place.store.put("k", part, metadata={"writer": str(number)}, condition=Absent())
        except AlreadyExistsError:
            return False
        return True

    with ThreadPoolExecutor(16) as threads:
        winners = [number for number, won in enumerate(threads.map(write, range(16))) if won]
    assert len(winners) == 1
    assert content_of(place.store, "k") == b"%02d" % winners[0] * 1000
    assert place.store.head("k").metadata == {"writer": str(winners[0])}
    assert place.unfinished() == 0


@pytest.mark.parametrize(("offset", "size"), [(0, 10), (5, 1), (90, 10), (90, None), (0, None), (100, None), (50, 0)])
def test_a_range_is_exactly_that_range(store: Store, offset: int, size: int | None) -> None:
    content = bytes(range(100))
    etag = store.put("k", part_of(content))
    found: list[bytes] = []
    store.read("k", offset=offset, size=size, etag=etag, sink=lambda piece: found.append(bytes(piece)))
    assert b"".join(found) == content[offset : None if size is None else offset + size]


def test_fewer_bytes_than_requested_is_an_error(place: Place) -> None:
    if "Retrying" in type(place.store).__name__:
        pytest.skip("the same, many tries later")
    place.store.put("k", part_of(b"12345"))
    with pytest.raises(TransientStoreError):
        place.store.read("k", offset=0, size=6, sink=lambda piece: None)
    with pytest.raises(TransientStoreError):
        place.store.read("k", offset=6, size=None, sink=lambda piece: None)


@pytest.mark.parametrize("size", [None, 3, 0])
def test_a_read_of_content_that_was_replaced_is_refused(store: Store, size: int | None) -> None:
    etag = store.put("k", part_of(b"12345"))
    store.put("k", part_of(b"67890"))
    found: list[bytes] = []
    with pytest.raises(DamagedError, match="no longer"):
        store.read("k", size=size, etag=etag, sink=lambda piece: found.append(bytes(piece)))
    assert found == []


def test_blocks_are_small_however_large_the_object(store: Store) -> None:
    content = bytes(5 << 20)
    store.put("k", part_of(content))
    sizes: list[int] = []
    store.read("k", sink=lambda piece: sizes.append(len(piece)))
    assert sum(sizes) == len(content)
    assert max(sizes) <= 1 << 20


def test_the_error_of_a_missing_object_says_so(store: Store) -> None:
    with pytest.raises(NotFoundError, match="gone"):
        store.head("gone")
    for size in (None, 5, 0):
        with pytest.raises(NotFoundError, match="gone"):
            store.read("gone", size=size, sink=lambda piece: None)
    store.put("a", part_of(b"x"))
    with pytest.raises(NotFoundError):
        store.head("a/b")


def test_deleting_a_missing_object_is_not_an_error(store: Store) -> None:
    store.put("k", part_of(b"x"), metadata={"a": "b"})
    store.delete("k")
    store.delete("k")
    store.delete("never/was")
    with pytest.raises(NotFoundError):
        store.head("k")
    store.put("k", part_of(b"x"), condition=Absent())
    assert store.head("k").metadata == {}


def test_the_error_of_a_missing_bucket_says_so(place: Place) -> None:
    for ask in (
        place.missing.check,
        lambda: list(place.missing.list("")),
        lambda: place.missing.put("k", part_of(b"x")),
        lambda: place.missing.begin_upload("k", part_size=5 << 20),
    ):
        with pytest.raises(NoBucketError):
            ask()
    place.store.check()


class Changing:
    """A file, and the checksum of what it held before it was changed."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        content = b"x" * size
        path.write_bytes(content)
        self.part = Part(path, 0, size, crc64nvme(content))


@pytest.fixture(params=[10, 3 << 20], ids=["small", "several blocks"])
def changing(request: pytest.FixtureRequest, tmp_path: Path) -> Changing:
    return Changing(tmp_path / "changing", request.param)


@pytest.mark.parametrize("change", ["other bytes", "last byte", "shorter", "empty", "gone"])
def test_a_file_that_changed_is_not_stored(place: Place, changing: Changing, change: str) -> None:
    size = changing.part.size
    if change == "gone":
        changing.path.unlink()
    else:
        content = {"other bytes": b"y" * size, "last byte": b"x" * (size - 1) + b"y", "shorter": b"x" * (size - 1)}
        changing.path.write_bytes(content.get(change, b""))
    with pytest.raises(FileChangedError, match="changing"):
        place.store.put("k", changing.part)
    with pytest.raises(NotFoundError):
        place.store.head("k")
    assert place.unfinished() == 0
    place.store.check()
