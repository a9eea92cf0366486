"""Whatever lies in a bucket, a restore writes nothing outside its directory and fails, if it fails, on purpose."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.crash.hostile import Bucket
from tests.crash.world import InOrder

from holdfast import checksum
from holdfast.attempts import claim, fence
from holdfast.errors import HoldfastError
from holdfast.restore import restorer
from holdfast.restore.request import Request
from holdfast.snapshot import catalog, keys, record_json
from holdfast.sync.assemble import Engine, assemble

NASTY = (
    *("../escape", "/etc/escape", "a/../../escape", "a//b", "./a", "a/.", "a/", "", ".", "..", "nul\0byte", "\ud800"),
    *("\udc80x", "x" * 255, "x" * 256, "ä" * 200, "/".join(["d" * 200] * 5), "/".join(["d" * 250] * 20)),
    *("a", "a/b", "a/b/c", "link/inside", "link", "here", "here/below", "new\nline", "tab\t", "-rf", "con", "A", "ａ"),
    *(".holdfast", ".holdfast/staging/x", ".holdfast/displaced/x", ".holdfast/preserved/0000000000000000-0/a"),
    *(".holdfast/commits/000001-000001", ".holdfast/commits/../x.json", ".holdfast/attempts/999999999.json"),
    *(".holdfast/objects/000001-000001/../../../escape", ".holdfast/attempts/x.json", "C:\\x", "~/x", "$HOME"),
    *(".holdfast/commits/999999999-999999999.json", ".holdfast/commits/000001-000002@algo-1.json"),
    *(".holdfast/commits/000001-000002@../x.json", "a.sagemaker-uploading", "x.sagemaker-ignore"),
)
paths = st.sampled_from(NASTY) | st.text(max_size=12) | st.text(alphabet="ab./", min_size=1, max_size=9)
CONTENTS = (b"", b"x", b"content", b"{}", b"x" * 5000)
contents = st.sampled_from(CONTENTS)
TIMES = st.just("2026-11-21T06:43:52.120Z") | st.sampled_from(
    ("2026-11-21T06:43:52.120Z", "9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+23:59", "0001-01-01", "x")
)
NUMBERS: tuple[Any, ...] = (
    0,
    1,
    -1,
    2**31,
    2**62,
    2**63 - 1,
    2**63,
    10**40,
    1.5,
    float("inf"),
    None,
    True,
    "1",
    [],
    {},
)
numbers = st.sampled_from(NUMBERS)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)


BOMB = gzip.compress(bytes(200 << 20))
"""200 MiB of zeros."""
NO_LISTS = (BOMB, gzip.compress(b"{}"), gzip.compress(b"[]") + b"more")


@st.composite
def file_entries(draw: st.DrawFn, objects: Mapping[str, bytes]) -> dict[str, Any]:
    """A file of a record: mostly one of these objects, with one field or another that is not plausible."""
    path, content = draw(paths), draw(contents)
    if objects and draw(st.integers(0, 9)) > 1:
        path = draw(st.sampled_from(sorted(objects)))
        content = objects[path]
    entry: dict[str, Any] = {
        "path": draw(st.just(path) | paths) if draw(st.integers(0, 5)) == 0 else path,
        "size": len(content),
        "mtime_ns": 1_790_000_000_000_000_000,
        "mode": 0o644,
        "crc64nvme": checksum.to_hex(checksum.crc64nvme(content)),
        "key": path,
        "etag": f'"{hash(content):x}"',
    }
    if draw(st.integers(0, 5)) == 0:
        entry[draw(st.sampled_from(("size", "mtime_ns", "mode")))] = draw(numbers)
    if draw(st.integers(0, 15)) == 0:
        entry[draw(st.sampled_from(sorted(entry)))] = draw(anything)
    return entry


@st.composite
def listed(draw: st.DrawFn, objects: Mapping[str, bytes]) -> bytes:
    """What lies where a list should: mostly a list; or what unpacks to more than any list has, or to nonsense."""
    if draw(st.integers(0, 5)) == 0:
        return draw(st.binary(max_size=40) | st.sampled_from(NO_LISTS))
    files = draw(st.lists(file_entries(objects), min_size=1, max_size=3))
    if draw(st.integers(0, 3)):
        files.sort(key=lambda entry: str(entry.get("path")))
    return gzip.compress(json.dumps(files, default=str).encode())


@st.composite
def lists_of(draw: st.DrawFn, objects: Mapping[str, bytes], bucket: dict[str, bytes]) -> list[dict[str, Any]]:
    """What a record says of its lists; they are put into the bucket."""
    named = []
    for number in range(draw(st.sampled_from((1, 1, 2)))):
        content = draw(listed(objects))
        key = f".holdfast/lists/000001-000001/{number}.json.gz" if draw(st.integers(0, 9)) else draw(paths)
        bucket[key] = content
        try:
            count = len(json.loads(gzip.decompress(content[:10_000])))
        except (OSError, EOFError, ValueError, TypeError, zlib.error):
            count = 1
        value: dict[str, Any] = {
            "key": key,
            "etag": f'"{hash(content):x}"',
            "size": len(content),
            "crc64nvme": checksum.to_hex(checksum.crc64nvme(content)),
            "files": count,
        }
        if draw(st.integers(0, 5)) == 0:
            value[draw(st.sampled_from(sorted(value)))] = draw(anything | numbers)
        named.append(value)
    return named


@st.composite
def records(draw: st.DrawFn, name: str, objects: Mapping[str, bytes], bucket: dict[str, bytes]) -> bytes:
    """The text of a record: sealed as ours are, whatever it says; or not even that."""
    _, sequence, host = keys.parse_name(name) or (0, 0, "")
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=40) | st.just(b"[" * 5000) | st.just(b'{"format": 1' + b"0" * 5000 + b"}"))
    body: dict[str, Any] = {
        "format": 1,
        "attempt": 1,
        "sequence": sequence,
        "created": draw(TIMES),
        "since": draw(st.none() | TIMES),
        "host": host or "algo-1",
        "hosts": ["algo-1", "algo-2"] if host else [],
        "ended": False,
        "token": "0",
        "complete": True,
        "conditional": True,
        "holdfast": "0",
        "files": draw(st.lists(file_entries(objects), max_size=4)),
        "lists": [],
        "adopted": draw(st.dictionaries(paths, st.text(max_size=5), max_size=2)),
    }
    in_record = draw(st.integers(0, 9)) == 0
    if draw(st.booleans()):
        body |= {
            "files": body["files"] if in_record else [],
            "lists": draw(lists_of(objects, bucket)),
        }
    if draw(st.integers(0, 9)) == 0:
        body["fence"] = draw(anything | st.fixed_dictionaries({"attempt": numbers, "host": st.text(max_size=5)}))
    if draw(st.integers(0, 5)) == 0:
        body[draw(st.sampled_from(sorted(body)))] = draw(anything | st.sampled_from((["algo-1"], ["../x"], "algo-1")))
    try:
        return json.dumps({**body, "checksum": record_json._seal(body)}).encode()
    except ValueError:
        return b"no JSON"


NAMES = ("000001-000001", "000001-000002", "000001-000001@algo-1", "000001-000001@algo-2")
METADATA: tuple[dict[str, str], ...] = ({keys.OWNER: "1"}, {keys.OWNER: "x@y"}, {keys.OWNER: "1", keys.CONTENT: "?"})


@st.composite
def buckets(draw: st.DrawFn) -> Bucket:
    """What others have put there, what looks like ours, and records."""
    foreign = draw(st.dictionaries(paths, contents, max_size=6))
    ours = draw(st.dictionaries(paths, st.tuples(contents, st.sampled_from(METADATA)), max_size=4))
    there = foreign | {key: content for key, (content, _) in ours.items()}
    lists: dict[str, bytes] = {}
    texts = {name: draw(records(name, there, lists)) for name in draw(st.sets(st.sampled_from(NAMES), max_size=3))}
    bucket = Bucket({key: (content, {}) for key, content in foreign.items()})
    bucket.objects.update(ours)
    bucket.objects.update({key: (content, {keys.OWNER: "1"}) for key, content in lists.items()})
    bucket.objects.update({keys.snapshot_key(name): (text, {}) for name, text in texts.items()})
    return bucket


def look(directory: Path) -> dict[str, object]:
    """Everything at and below a directory but what is holdfast's own in it."""
    found: dict[str, object] = {}
    for folder, folders, files in os.walk(directory):
        if ".holdfast" in folders:
            folders.remove(".holdfast")
        for name in [*files, *folders]:
            path = Path(folder, name)
            status = path.lstat()
            found[str(path)] = (status.st_mode, path.readlink() if path.is_symlink() else None)
            if path.is_file() and not path.is_symlink():
                found[str(path)] = (status.st_mode, status.st_mtime_ns, path.read_bytes())
    return found


def outside(directory: Path, seen: Mapping[str, object]) -> dict[str, object]:
    return {path: what for path, what in seen.items() if not path.startswith(f"{directory}/")}


def live(bucket: Bucket, directory: Path, said: list[str]) -> None:
    """Claim, restore, store something, tidy."""
    found = catalog.read_catalog(bucket)
    mine = claim.claim(bucket, found.attempts, claim.Claimant("h", "0", "local"), started=datetime.now(UTC))
    found = fence.fence(bucket, found, mine)
    done = restorer.restore(bucket, found, directory, Request(attempt=mine), workers=InOrder())
    (directory / "one more").write_bytes(b"one more")
    syncer = assemble(
        Engine(store=bucket, workers=InOrder(), clock=lambda: datetime.now(UTC)), directory, mine, done.base
    )
    syncer.sync(syncer.scan())
    syncer.tidy()


@settings(max_examples=300, deadline=None)
@given(buckets())
def test_nothing_in_a_bucket_leads_out_of_the_directory_or_to_an_error_that_nobody_foresaw(bucket: Bucket) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        parent = Path(name)
        directory = parent / "machine" / "checkpoints"
        directory.mkdir(parents=True)
        (parent / "elsewhere").mkdir()
        (parent / "elsewhere" / "inside").write_bytes(b"of another writer")
        (directory / "here").write_bytes(b"here before")
        (directory / "link").symlink_to(parent / "elsewhere")
        before = look(parent)
        foreign = {key for key, (_, metadata) in bucket.objects.items() if keys.OWNER not in metadata}
        try:
            live(bucket, directory, [])
        except HoldfastError:
            if not (directory / "one more").exists():
                assert look(parent) == before
        assert outside(directory, look(parent)) == outside(directory, before)
        own = {key for key in bucket.deleted if key.startswith(".holdfast/")}
        assert not foreign & (set(bucket.deleted) - own)
