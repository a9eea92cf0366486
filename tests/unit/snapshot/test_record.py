"""A record is read as it was written, and a damaged or unsafe one is refused."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import DamagedError
from holdfast.snapshot import keys, record_json
from holdfast.snapshot.record import FileEntry, Snapshot
from holdfast.snapshot.record_json import from_json, to_json


def snapshot(*paths: str) -> Snapshot:
    created = datetime(2026, 11, 21, 6, 43, 52, 120_000, UTC)
    files = {path: entry(path) for path in paths}
    return Snapshot(attempt=2, sequence=7, created=created, host="algo-1", version="0.1.0", files=files)


def entry(path: str) -> FileEntry:
    mtime_ns = 1_700_000_000_000_000_001
    return FileEntry(path=path, size=5, mtime_ns=mtime_ns, mode=0o644, crc64nvme=2**63 + 7, key=path, etag='"etag"')


def test_what_is_written_is_what_is_read() -> None:
    original = snapshot("a.pt", "dir/ü \n.pt")
    assert from_json(to_json(original), name="000002-000007") == original


def test_optional_fields_of_a_file_are_read_as_they_were_written() -> None:
    plain, other = snapshot("a", "b").files.values()
    files = {"a": plain, "b": replace(other, parts="16777216:AAAAAAAAAAA=")}
    original = replace(snapshot(), files=files)
    assert from_json(to_json(original), name="000002-000007") == original
    assert to_json(original).count(b"parts") == 1


def test_names_sort_in_the_order_of_the_commits() -> None:
    assert keys.snapshot_name(2, 1) > keys.snapshot_name(1, 999_999)
    assert keys.parse_name("000002-000007") == (2, 7, "")
    assert keys.parse_name("latest") is None


def test_one_changed_letter_is_noticed() -> None:
    text = to_json(snapshot("a.pt")).replace(b'"size": 5', b'"size": 6')
    with pytest.raises(DamagedError, match="checksum"):
        from_json(text, name="000002-000007")


def test_a_record_under_another_name_is_refused() -> None:
    with pytest.raises(DamagedError, match="says that it is 000002-000007"):
        from_json(to_json(snapshot("a.pt")), name="000003-000001")


def test_a_newer_format_asks_for_an_upgrade() -> None:
    with pytest.raises(DamagedError, match="upgrade"):
        from_json(b'{"format": 2}', name="000002-000007")


@pytest.mark.parametrize(
    "path", ["../../etc/cron.d/x", "/etc/passwd", ".holdfast/staging/x", "x.sagemaker-uploading", ""]
)
def test_a_record_whose_paths_leave_the_directory_is_refused(path: str) -> None:
    with pytest.raises(DamagedError, match="must not be restored"):
        from_json(to_json(snapshot(path)), name="000002-000007")


def test_a_file_where_another_needs_a_directory_is_refused() -> None:
    with pytest.raises(DamagedError, match="directory"):
        from_json(to_json(snapshot("a", "a/b")), name="000002-000007")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_other_json_is_a_damaged_record(value: object) -> None:
    with pytest.raises(DamagedError):
        from_json(json.dumps(value).encode(), name="000002-000007")


@given(st.binary())
def test_random_bytes_are_a_damaged_record(text: bytes) -> None:
    with pytest.raises(DamagedError):
        from_json(text, name="000002-000007")


@pytest.mark.parametrize("value", [-1, 2**63, 1.5, True, "5", None])
def test_a_size_that_is_no_size_is_refused(value: object) -> None:
    body = json.loads(to_json(snapshot("a.pt")))
    body["files"][0]["size"] = value
    del body["checksum"]
    body["checksum"] = record_json._seal(body)
    with pytest.raises(DamagedError, match="whole number"):
        from_json(json.dumps(body).encode(), name="000002-000007")
