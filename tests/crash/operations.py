"""Every operation of a life on disk, socket and store, passed through its fuse.

The disk is the operating system's functions: the engines and the directory store call them, and nothing of ours
stands between. The store is a wrapper at the store protocol. A put to a directory is thus many operations, each of
which can be the last; one to S3 is a few pieces on a socket.
"""

from __future__ import annotations

import http.client
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO, Any, TypeVar

from tests.crash.fuse import Crash, Fuse

from holdfast.snapshot import keys
from holdfast.store import (
    Condition,
    Content,
    Metadata,
    ObjectInfo,
    ObjectRange,
    Part,
    Sink,
    Store,
    StoredPart,
    UnfinishedUpload,
    Upload,
)

T = TypeVar("T")

# Each is one step of the kernel's: done, or not.
_ATOMIC = (
    "rename", "replace", "link", "symlink", "unlink", "remove", "mkdir", "rmdir", "chmod", "utime", "ftruncate",
    "posix_fallocate",
)  # fmt: skip


class Disk:
    """The operating system's functions that change a disk, and the sockets, while `installed`.

    Attributes:
        fuse: of the life that runs now; None: another writer, whose operations are not counted.
    """

    def __init__(self) -> None:
        self.fuse: Fuse | None = None

    @contextmanager
    def used_by(self, fuse: Fuse | None) -> Iterator[None]:
        before, self.fuse = self.fuse, fuse
        try:
            yield
        finally:
            self.fuse = before

    @contextmanager
    def installed(self) -> Iterator[None]:
        replaced: list[tuple[Any, str, Callable[..., Any]]] = [
            *((os, name, self._counted(name, getattr(os, name))) for name in _ATOMIC),
            (os, "pwrite", self._pwrite(os.pwrite)),
            (os, "copy_file_range", self._copy_file_range(os.copy_file_range)),
            (os, "open", self._os_open(os.open)),
            (io, "open", self._io_open(io.open)),
            (http.client.HTTPConnection, "send", self._send(http.client.HTTPConnection.send)),
        ]
        with ExitStack() as stack:
            for owner, name, counted in replaced:
                stack.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, counted)
            yield

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if self.fuse is None:
                return real(*args, **options)
            return self.fuse.run(name, lambda: real(*args, **options))

        return call

    def _pwrite(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(descriptor: int, data: Any, offset: int) -> int:
            if self.fuse is None:
                return real(descriptor, data, offset)
            part = memoryview(data)[: len(data) // 2]
            return self.fuse.run(
                "write", lambda: real(descriptor, data, offset), lambda: real(descriptor, part, offset)
            )

        return call

    def _copy_file_range(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(source: int, target: int, count: int, *offsets: int) -> int:
            if self.fuse is None:
                return real(source, target, count, *offsets)
            return self.fuse.run(
                "write",
                lambda: real(source, target, count, *offsets),
                lambda: real(source, target, count // 2, *offsets),
            )

        return call

    def _os_open(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(path: Any, flags: int, *args: Any, **options: Any) -> int:
            if self.fuse is None or not flags & (os.O_CREAT | os.O_TRUNC):
                return real(path, flags, *args, **options)
            return _create(self.fuse, lambda: real(path, flags, *args, **options), os.close)

        return call

    def _io_open(self, real: Callable[..., IO[Any]]) -> Callable[..., IO[Any]]:
        def call(path: Any, mode: str = "r", *args: Any, **options: Any) -> IO[Any]:
            if self.fuse is None or mode in ("r", "rb"):
                return real(path, mode, *args, **options)
            return _create(self.fuse, lambda: real(path, mode, *args, **options), lambda file: file.close())

        return call

    def _send(self, real: Callable[[http.client.HTTPConnection, Any], None]) -> Callable[..., None]:
        def call(connection: http.client.HTTPConnection, data: Any) -> None:
            if self.fuse is None:
                return real(connection, data)

            def half() -> None:
                real(connection, bytes(data)[: len(data) // 2])
                connection.close()  # what the kernel does for a dead process

            splittable = isinstance(data, bytes | memoryview) and len(data) > 1
            return self.fuse.run("send", lambda: real(connection, data), half if splittable else None)

        return call


def _create(fuse: Fuse, create: Callable[[], T], close: Callable[[T], None]) -> T:
    """Create a file. Who crashes just then has nothing to close it by: the kernel does it."""
    created: list[T] = []

    def act() -> T:
        created.append(create())
        return created[0]

    try:
        return fuse.run("create", act)
    except Crash:
        for file in created:
            close(file)
        raise


class CountedStore:
    """A store whose every request is an operation, and which tells of records that are put.

    Args:
        store: does the work.
        fuse: of the life whose store this is.
        committing: gets name and text of a record before it is sent.
        committed: gets the name when the answer has come.
    """

    def __init__(
        self,
        store: Store,
        fuse: Fuse,
        committing: Callable[[str, bytes], None],
        committed: Callable[[str], None],
    ) -> None:
        self._store = store
        self._fuse = fuse
        self._committing = committing
        self._committed = committed

    def check(self) -> None:
        self._store.check()

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        yield from self._fuse.run("list", lambda: [*self._store.list(prefix)])

    def head(self, key: str) -> ObjectInfo:
        return self._fuse.run("head", lambda: self._store.head(key))

    def read(self, key: str, *, offset: int = 0, size: int | None = None, etag: str | None = None, sink: Sink) -> None:
        half = None
        if size is not None and size > 1:

            def half() -> None:
                self._store.read(key, offset=offset, size=size // 2, etag=etag, sink=sink)

        self._fuse.run(
            f"read {_kind(key)}",
            lambda: self._store.read(key, offset=offset, size=size, etag=etag, sink=sink),
            half,
        )

    def put(self, key: str, part: Part, *, metadata: Metadata | None = None, condition: Condition | None = None) -> str:
        kind, name = _kind(key), key.removeprefix(keys.COMMITS).removesuffix(".json")
        assert kind != "record" or isinstance(part.source, bytes)
        if kind == "record" and b'"fence"' in part.source:  # type: ignore[operator]
            kind = "fence"

        def act() -> str:
            if kind == "record" and isinstance(part.source, bytes):
                self._committing(name, part.source)
            return self._store.put(key, part, metadata=metadata, condition=condition)

        etag = self._fuse.run(f"put {kind}", act)
        if kind == "record":
            self._committed(name)
        return etag

    def copy(
        self, source: Content, key: str, *, metadata: Metadata | None = None, condition: Condition | None = None
    ) -> str:
        return self._fuse.run(
            f"copy to {_kind(key)}",
            lambda: self._store.copy(source, key, metadata=metadata, condition=condition),
        )

    def begin_upload(self, key: str, *, part_size: int, metadata: Metadata | None = None) -> Upload:
        return self._fuse.run(
            "begin upload", lambda: self._store.begin_upload(key, part_size=part_size, metadata=metadata)
        )

    def put_part(self, upload: Upload, number: int, part: Part) -> StoredPart:
        return self._fuse.run("put part", lambda: self._store.put_part(upload, number, part))

    def put_part_copy(self, upload: Upload, number: int, source: ObjectRange) -> StoredPart:
        return self._fuse.run(
            "copy part",
            lambda: self._store.put_part_copy(upload, number, source),
        )

    def complete_upload(
        self, upload: Upload, parts: Sequence[StoredPart], *, crc64nvme: int, condition: Condition | None = None
    ) -> str:
        return self._fuse.run(
            "complete upload",
            lambda: self._store.complete_upload(upload, parts, crc64nvme=crc64nvme, condition=condition),
        )

    def abort_upload(self, upload: Upload) -> None:
        self._fuse.run("abort upload", lambda: self._store.abort_upload(upload))

    def unfinished_uploads(self) -> Iterator[UnfinishedUpload]:
        yield from self._fuse.run("list uploads", lambda: [*self._store.unfinished_uploads()])

    def delete(self, key: str, *, etag: str | None = None) -> None:
        self._fuse.run(f"delete {_kind(key)}", lambda: self._store.delete(key, etag=etag))


def _kind(key: str) -> str:
    for prefix, kind in (
        (keys.COMMITS, "record"),
        (keys.LISTS, "list"),
        (keys.REPORTED, "reported"),
        (keys.ATTEMPTS, "claim"),
        (keys.OBJECTS, "content"),
        (keys.PRESERVED, "preserved"),
    ):
        if key.startswith(prefix):
            return kind
    return "plain"
