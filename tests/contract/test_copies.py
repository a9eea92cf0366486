"""What every store promises about server-side copies, and about conditions on the object at a key."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.contract.conftest import Place, content_of, part_of

from holdfast.checksum import crc64nvme
from holdfast.errors import AlreadyExistsError, DamagedError, HoldfastError, NotFoundError, PermanentStoreError
from holdfast.stop import StoppedError, StopToken
from holdfast.store import Absent, Condition, Content, ObjectRange, Replaces, Store
from holdfast.transfer import parts as parts_module
from holdfast.transfer import server_copy
from holdfast.transfer import upload as transfer
from holdfast.transfer.parallel import Transfer

MIB = 1 << 20
CONTENT = random.Random(8).randbytes(11 * MIB + 77)
WHOLE = crc64nvme(CONTENT)
LONG_UNICODE = "/".join(["ü" * 100, "模" * 66, "🦀" * 50, "é" * 100, "x" * 198])
ODD = [
    "with space and  two",
    "percent%20 %zz plus+",
    "hash#mark?question&and=equals",
    "a\tb",
    "e\u0301\u00e9",
    LONG_UNICODE,
]


def copy(
    store: Store,
    source: str,
    key: str,
    content: bytes,
    *,
    etag: str | None = None,
    metadata: dict[str, str] | None = None,
    condition: Condition | None = None,
) -> str:
    etag = store.head(source).etag if etag is None else etag
    return store.copy(of(source, etag, content), key, metadata=metadata, condition=condition)


def of(key: str, etag: str, content: bytes) -> Content:
    return Content(key, etag, len(content), crc64nvme(content))


def range_of(etag: str, offset: int, size: int, crc: int | None = None, *, key: str = "from") -> ObjectRange:
    return ObjectRange(key=key, etag=etag, offset=offset, size=size, crc64nvme=crc)


def in_parts(store: Store, key: str, content: bytes = CONTENT) -> str:
    """Store an object in parts of 5 MiB."""
    upload = store.begin_upload(key, part_size=5 * MIB)
    parts = [
        store.put_part(upload, number, part_of(content[start : start + 5 * MIB]))
        for number, start in enumerate(range(0, len(content), 5 * MIB), start=1)
    ]
    return store.complete_upload(upload, parts, crc64nvme=crc64nvme(content))


def test_a_copy_has_the_content_of_its_source_and_metadata_of_its_own(store: Store) -> None:
    store.put("from", part_of(b"12345"), metadata={"holdfast-attempt": "1", "only": "there"})
    etag = copy(store, "from", "to/here", b"12345", metadata={"holdfast-attempt": "2"})
    assert content_of(store, "to/here") == content_of(store, "from") == b"12345"
    info = store.head("to/here")
    assert (info.size, info.etag, info.metadata) == (5, etag, {"holdfast-attempt": "2"})
    assert store.head("from").metadata == {"holdfast-attempt": "1", "only": "there"}


def test_a_copy_without_metadata_has_none(store: Store) -> None:
    store.put("from", part_of(b"12345"), metadata={"holdfast-attempt": "1"})
    copy(store, "from", "to", b"12345")
    assert store.head("to").metadata == {}


def test_an_empty_object_is_copied_too(store: Store) -> None:
    store.put("from", part_of(b""))
    copy(store, "from", "to", b"")
    assert store.head("to").size == 0


def test_an_object_of_several_parts_is_copied_in_one_request(store: Store) -> None:
    in_parts(store, "from")
    copy(store, "from", "to", CONTENT)
    assert content_of(store, "to") == CONTENT


@pytest.mark.parametrize("key", ODD)
def test_any_name_is_copied_from_and_to(store: Store, key: str) -> None:
    store.put(key, part_of(b"x"))
    copy(store, key, f"z{key[1:]}", b"x", metadata={"a": "b"})
    copy(store, f"z{key[1:]}", "plain", b"x")
    assert {info.key for info in store.list("")} == {key, f"z{key[1:]}", "plain"}
    assert content_of(store, "plain") == content_of(store, f"z{key[1:]}") == b"x"


def test_a_copy_outlives_its_source(store: Store) -> None:
    store.put("from", part_of(b"12345"))
    copy(store, "from", "to", b"12345")
    store.put("from", part_of(b"67890"))
    store.delete("from")
    assert content_of(store, "to") == b"12345"


def test_a_copy_replaces_the_object_at_its_key(store: Store) -> None:
    store.put("from", part_of(b"new"))
    store.put("to", part_of(b"the old"), metadata={"old": "1"})
    copy(store, "from", "to", b"new", metadata={"new": "1"})
    assert content_of(store, "to") == b"new"
    assert store.head("to").metadata == {"new": "1"}


def test_nothing_is_copied_onto_itself(store: Store) -> None:
    etag = store.put("k", part_of(b"12345"), metadata={"a": "b"})
    with pytest.raises(PermanentStoreError, match="itself"):
        copy(store, "k", "k", b"12345", metadata={"c": "d"})
    with pytest.raises(PermanentStoreError, match="itself"):
        server_copy.copy_object(Transfer(store), Content("k", etag, 1 << 30, 0), "k")
    assert store.head("k").metadata == {"a": "b"}


@pytest.mark.parametrize("condition", [None, Absent()])
def test_a_source_that_was_replaced_is_an_error(store: Store, condition: Condition | None) -> None:
    etag = store.put("from", part_of(b"12345"))
    store.put("from", part_of(b"67890"))
    with pytest.raises(DamagedError, match="'from'"):
        copy(store, "from", "to", b"12345", etag=etag, condition=condition)


@pytest.mark.needs("pinned copy")
def test_a_source_that_was_replaced_is_not_copied(store: Store) -> None:
    etag = store.put("from", part_of(b"12345"))
    store.put("from", part_of(b"67890"))
    with pytest.raises(DamagedError):
        copy(store, "from", "to", b"12345", etag=etag)
    with pytest.raises(NotFoundError):
        store.head("to")


@pytest.mark.parametrize("condition", ["none", "absent", "replaces"])
def test_the_error_of_a_missing_source_says_so(store: Store, condition: str) -> None:
    conditions: dict[str, Condition | None] = {"none": None, "absent": Absent()}
    if condition == "replaces":
        conditions[condition] = Replaces(store.put("to", part_of(b"old")))
    with pytest.raises(NotFoundError):
        copy(store, "from", "to", b"12345", etag='"e"', condition=conditions[condition])
    assert [info.size for info in store.list("")] == ([3] if condition == "replaces" else [])


@pytest.mark.needs("checksum of a copy")
def test_a_copy_with_another_checksum_than_the_recorded_one_is_an_error(store: Store) -> None:
    etag = store.put("from", part_of(b"12345"))
    with pytest.raises(DamagedError, match="CRC64NVME"):
        copy(store, "from", "to", b"54321", etag=etag)


@pytest.mark.needs("copy only if absent")
def test_a_conditional_copy_does_not_replace_an_object(place: Place) -> None:
    store = place.store
    store.put("from", part_of(b"new"))
    copy(store, "from", "to", b"new", metadata={"who": "first"}, condition=Absent())
    with pytest.raises(AlreadyExistsError):
        copy(store, "from", "to", b"new", metadata={"who": "second"}, condition=Absent())
    assert store.head("to").metadata == {"who": "first"}
    assert place.unfinished() == 0


def test_a_copy_replaces_exactly_the_named_object(store: Store) -> None:
    store.put("from", part_of(b"new"))
    there = store.put("to", part_of(b"the old"))
    assert copy(store, "from", "to", b"new", metadata={"a": "b"}, condition=Replaces(there)) == store.head("to").etag
    assert content_of(store, "to") == b"new"


@pytest.mark.needs("replacing copy")
def test_a_copy_does_not_replace_other_content(place: Place) -> None:
    store = place.store
    store.put("from", part_of(b"new"))
    before = store.put("to", part_of(b"the old"))
    place.intrude("to", b"another writer's")
    with pytest.raises(AlreadyExistsError):
        copy(store, "from", "to", b"new", condition=Replaces(before))
    assert content_of(store, "to") == b"another writer's"
    store.delete("to")
    with pytest.raises(AlreadyExistsError):
        copy(store, "from", "to", b"new", condition=Replaces(before))
    with pytest.raises(NotFoundError):
        store.head("to")
    assert place.unfinished() == 0


# Parts of an upload


def test_an_upload_mixes_parts_that_are_sent_and_parts_that_are_copied(place: Place) -> None:
    store = place.store
    etag = in_parts(store, "from")
    changed = random.Random(9).randbytes(5 * MIB)
    upload = store.begin_upload("to", part_size=5 * MIB, metadata={"a": "b"})
    parts = [
        store.put_part_copy(upload, 1, range_of(etag, 0, 5 * MIB, crc64nvme(CONTENT[: 5 * MIB]))),
        store.put_part(upload, 2, part_of(changed)),
        store.put_part_copy(upload, 3, range_of(etag, 10 * MIB, MIB + 77)),
    ]
    expected = CONTENT[: 5 * MIB] + changed + CONTENT[10 * MIB :]
    store.complete_upload(upload, parts, crc64nvme=crc64nvme(expected))
    assert content_of(store, "to") == expected
    assert store.head("to").metadata == {"a": "b"}
    assert place.unfinished() == 0


def test_copied_parts_may_come_in_any_order_and_across_the_parts_of_their_source(store: Store) -> None:
    etag = in_parts(store, "from")
    size = 6 * MIB
    upload = store.begin_upload("to", part_size=size)
    parts = [
        store.put_part_copy(upload, number, range_of(etag, start, min(size, len(CONTENT) - start)))
        for number, start in ((2, size), (1, 0))
    ]
    store.complete_upload(upload, parts[::-1], crc64nvme=WHOLE)
    assert content_of(store, "to") == CONTENT


def test_an_object_is_replaced_by_an_upload_that_copies_parts_of_it(store: Store) -> None:
    etag = in_parts(store, "k")
    upload = store.begin_upload("k", part_size=5 * MIB)
    parts = [
        store.put_part_copy(upload, 1, range_of(etag, 5 * MIB, 5 * MIB, key="k")),
        store.put_part(upload, 2, part_of(b"the end")),
    ]
    expected = CONTENT[5 * MIB : 10 * MIB] + b"the end"
    store.complete_upload(upload, parts, crc64nvme=crc64nvme(expected), condition=Replaces(etag))
    assert content_of(store, "k") == expected


def test_a_range_of_a_source_that_was_replaced_is_not_copied(place: Place) -> None:
    etag = in_parts(place.store, "from")
    in_parts(place.store, "from", CONTENT[::-1])
    upload = place.store.begin_upload("to", part_size=5 * MIB)
    with pytest.raises(DamagedError, match="no longer"):
        place.store.put_part_copy(upload, 1, range_of(etag, 0, 5 * MIB))
    place.store.abort_upload(upload)
    assert place.unfinished() == 0


def test_the_error_of_a_range_of_a_missing_source_says_so(store: Store) -> None:
    upload = store.begin_upload("to", part_size=5 * MIB)
    with pytest.raises(NotFoundError):
        store.put_part_copy(upload, 1, range_of('"e"', 0, 5 * MIB))
    store.abort_upload(upload)


@pytest.mark.needs("end of a copied range")
def test_a_range_beyond_the_end_of_its_source_is_refused(store: Store) -> None:
    etag = in_parts(store, "from")
    upload = store.begin_upload("to", part_size=5 * MIB)
    with pytest.raises(PermanentStoreError):
        store.put_part_copy(upload, 1, range_of(etag, 10 * MIB, 5 * MIB))
    store.abort_upload(upload)


@pytest.mark.needs("checksum of a copied part")
def test_a_range_with_another_checksum_than_the_recorded_one_is_an_error(store: Store) -> None:
    etag = in_parts(store, "from")
    upload = store.begin_upload("to", part_size=5 * MIB)
    with pytest.raises(DamagedError, match="CRC64NVME"):
        store.put_part_copy(upload, 1, range_of(etag, 0, 5 * MIB, WHOLE))
    store.abort_upload(upload)


@pytest.mark.needs("smallest part")
def test_a_part_that_is_not_the_last_has_five_mebibytes(store: Store) -> None:
    etag = in_parts(store, "from")
    upload = store.begin_upload("to", part_size=MIB)
    parts = [store.put_part_copy(upload, number, range_of(etag, 0, MIB)) for number in (1, 2)]
    with pytest.raises(PermanentStoreError):
        store.complete_upload(upload, parts, crc64nvme=crc64nvme(CONTENT[:MIB] * 2))
    store.abort_upload(upload)


# Completions on a condition


@pytest.mark.needs("replacing completion")
def test_a_completion_does_not_replace_other_content(place: Place) -> None:
    store = place.store
    before = store.put("k", part_of(b"the old"))
    upload = store.begin_upload("k", part_size=5 * MIB)
    part = store.put_part(upload, 1, part_of(b"the new"))
    place.intrude("k", b"another writer's")
    with pytest.raises(AlreadyExistsError):
        store.complete_upload(upload, [part], crc64nvme=crc64nvme(b"the new"), condition=Replaces(before))
    assert content_of(store, "k") == b"another writer's"
    store.delete("k")
    with pytest.raises(AlreadyExistsError):
        store.complete_upload(upload, [part], crc64nvme=crc64nvme(b"the new"), condition=Replaces(before))
    with pytest.raises(NotFoundError):
        store.head("k")
    store.abort_upload(upload)
    assert place.unfinished() == 0


# Unfinished uploads


def test_an_unfinished_upload_is_found_and_can_be_aborted(place: Place) -> None:
    store = place.store
    assert list(store.unfinished_uploads()) == []
    upload = store.begin_upload("large/model +ü", part_size=5 * MIB, metadata={"a": "b"})
    store.put_part(upload, 1, part_of(b"x" * 5 * MIB))
    finished = store.begin_upload("finished", part_size=5 * MIB)
    part = store.put_part(finished, 1, part_of(b"x"))
    store.complete_upload(finished, [part], crc64nvme=crc64nvme(b"x"))
    dropped = store.begin_upload("dropped", part_size=5 * MIB)
    store.abort_upload(dropped)
    place.beside("-two").begin_upload("a neighbour's", part_size=5 * MIB)
    (found,) = store.unfinished_uploads()
    assert (found.upload.key, found.upload.id) == (upload.key, upload.id)
    store.abort_upload(found.upload)
    assert list(store.unfinished_uploads()) == []
    assert [info.key for info in store.list("")] == ["finished"]


@pytest.mark.needs("time of an upload")
def test_an_upload_is_as_old_as_its_beginning(store: Store) -> None:
    store.put("k", part_of(b"x"))
    store.begin_upload("large", part_size=5 * MIB)
    (found,) = store.unfinished_uploads()
    assert abs(found.began - store.head("k").modified) < 60


def test_several_uploads_of_one_key_are_all_found(store: Store) -> None:
    ids = {store.begin_upload("k", part_size=5 * MIB).id for _ in range(3)}
    assert {found.upload.id for found in store.unfinished_uploads()} == ids


# Deletions on a condition


def test_exactly_the_named_content_is_deleted(store: Store) -> None:
    etag = store.put("k", part_of(b"x"), metadata={"a": "b"})
    store.delete("k", etag=etag)
    with pytest.raises(NotFoundError):
        store.head("k")
    store.delete("k", etag=etag)


@pytest.mark.needs("conditional delete")
def test_other_content_is_not_deleted(place: Place) -> None:
    etag = place.store.put("k", part_of(b"old"))
    place.intrude("k", b"another writer's")
    with pytest.raises(AlreadyExistsError):
        place.store.delete("k", etag=etag)
    assert content_of(place.store, "k") == b"another writer's"


# Whole objects


@pytest.fixture(scope="module")
def large() -> bytes:
    """Bytes that need more than one request to be copied."""
    return random.Random(10).randbytes(server_copy.SINGLE_COPY + 3 * MIB + 1)


def stored_large(place: Place, content: bytes, tmp_path: Path) -> str:
    (tmp_path / "large").write_bytes(content)
    sums = parts_module.checksum_file(tmp_path / "large")
    return transfer.upload_file(Transfer(place.store), "from", tmp_path / "large", size=sums.size)


@pytest.mark.parametrize("workers", [0, 3])
def test_a_large_object_is_copied_in_parts(place: Place, large: bytes, tmp_path: Path, workers: int) -> None:
    etag = stored_large(place, large, tmp_path)
    with ThreadPoolExecutor(workers or 1) as threads:
        pool = threads if workers else None
        source = of("from", etag, large)
        copied = server_copy.copy_object(
            Transfer(place.store, pool), source, "to", metadata={"a": "b"}, condition=Absent()
        )
    info = place.store.head("to")
    assert (info.size, info.etag, info.metadata) == (len(large), copied, {"a": "b"})
    assert content_of(place.store, "to") == large
    assert place.unfinished() == 0


def test_a_large_copy_that_fails_leaves_nothing(place: Place, large: bytes, tmp_path: Path) -> None:
    etag = stored_large(place, large, tmp_path)
    taken = place.store.put("taken", part_of(b"x"))
    source = of("from", etag, large)

    def attempt(error: type[HoldfastError], key: str, condition: Condition | None = None) -> None:
        with pytest.raises(error):
            server_copy.copy_object(Transfer(place.store), source, key, condition=condition)
        assert place.unfinished() == 0

    attempt(AlreadyExistsError, "taken", Absent())
    attempt(AlreadyExistsError, "taken", Replaces(etag))
    attempt(AlreadyExistsError, "to", Replaces(taken))
    place.store.delete("from")
    attempt(NotFoundError, "to")
    assert [info.key for info in place.store.list("")] == ["taken"]


def test_a_large_copy_that_is_stopped_leaves_nothing(place: Place, large: bytes, tmp_path: Path) -> None:
    etag = stored_large(place, large, tmp_path)
    answers = iter([False, False])
    stop = StopToken(when=lambda: next(answers, True))
    with ThreadPoolExecutor(2) as threads, pytest.raises(StoppedError):
        server_copy.copy_object(Transfer(place.store, threads, stop), of("from", etag, large), "to")
    assert [info.key for info in place.store.list("")] == ["from"]
    assert place.unfinished() == 0


def test_an_object_that_changes_while_a_large_copy_replaces_it_stays(
    place: Place, large: bytes, tmp_path: Path
) -> None:
    etag = stored_large(place, large, tmp_path)
    before = place.store.put("to", part_of(b"old"))

    asked: list[None] = []

    def intrude() -> bool:
        asked.append(None)
        if len(asked) == 2:  # the first time is before the first look
            place.intrude("to", b"another writer's")
        return False

    watched = Transfer(place.store, stop=StopToken(when=intrude))
    with pytest.raises(AlreadyExistsError):
        server_copy.copy_object(watched, of("from", etag, large), "to", condition=Replaces(before))
    assert content_of(place.store, "to") == b"another writer's"
    assert place.unfinished() == 0


def test_a_small_object_is_copied_by_the_same_call(store: Store) -> None:
    etag = store.put("from", part_of(b"12345"))
    copied = server_copy.copy_object(Transfer(store), of("from", etag, b"12345"), "to")
    assert store.head("to").etag == copied


def test_a_small_copy_checks_conditions_also_where_the_server_ignores_them(store: Store) -> None:
    etag = store.put("from", part_of(b"12345"))
    before = store.put("to", part_of(b"first"))
    store.put("to", part_of(b"second"))
    source = of("from", etag, b"12345")
    for key, condition in (("to", Absent()), ("to", Replaces(before)), ("gone", Replaces(before))):
        with pytest.raises(AlreadyExistsError):
            server_copy.copy_object(Transfer(store), source, key, condition=condition)
    assert content_of(store, "to") == b"second"
