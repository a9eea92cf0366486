"""Storing: one file of the checkpoint directory becomes content in the store, sent once and never over anything."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path

from holdfast import checksum, disk, keys, transfer
from holdfast.attempt import Attempt
from holdfast.disk import FileState
from holdfast.errors import AlreadyExistsError, CutFileError, FileChangedError
from holdfast.plain import Origin, PlainKeys
from holdfast.record import FileEntry
from holdfast.store import Store

_CONTENT_BUDGET = 16 << 20
"""Bytes of content that a probe may read beside headers: what a cut looks like shows mostly without any."""


class Storer:
    """Stores files of one checkpoint directory under one prefix.

    Several files may be stored at a time, each by one thread.

    Args:
        store: where the prefix is.
        directory: the checkpoint directory.
        attempt: who stores.
        plain: what lies at the plain keys.
        known: files whose content lies in the store already.
        progress: gets the bytes of each piece that was sent.
        tell: gets a sentence about what the operator should know.
        sha256: note the SHA-256 of every file too.
    """

    def __init__(
        self,
        store: Store,
        directory: Path,
        attempt: Attempt,
        *,
        plain: PlainKeys,
        known: Iterable[FileEntry],
        progress: Callable[[int], None],
        tell: Callable[[str], None],
        sha256: bool = False,
    ) -> None:
        self.uploaded = 0
        """Bytes of content that travelled in this attempt."""
        self.sent: set[str] = set()
        """Keys of all content that was sent in this attempt and has not been deleted since."""
        self.number = 0
        """Of the pass: what makes content keys differ."""
        self._store = store
        self._directory = directory
        self._attempt = attempt
        self._plain = plain
        self._content = {(entry.size, entry.crc64nvme): (entry.key, entry.etag) for entry in known}
        self._progress = progress
        self._tell = tell
        self._sha256 = sha256
        self._told: set[str] = set()
        self._sending: dict[tuple[int, int], threading.Lock] = {}

    def store_file(
        self,
        state: FileState,
        parts: Executor | None,
        *,
        should_stop: Callable[[], bool],
        should_leave: Callable[[], bool],
    ) -> FileEntry:
        """Store a file, unless its content is in the store already, and return its entry.

        Args:
            state: the file as it was seen.
            parts: runs the parts of a large file.
            should_stop: asked before and while the file is sent.
            should_leave: the same, asked only before.

        Raises:
            FileChangedError: it is not, or not any more, as it was seen.
            CutFileError: its format proves that it is not whole.
            StoppedError: `should_stop` or `should_leave` said yes.
            StoreError: the store did not take it.
        """
        if should_stop() or should_leave():
            raise transfer.StoppedError(f"{state.path}: no time was left to send it")
        path = self._directory / state.path
        self._refuse_if_cut(path)
        sums = transfer.checksum_file(path, size=state.size)
        sha256 = checksum.sha256_file(path) if self._sha256 else None
        self._refuse_if_changed(state)
        content = (state.size, sums.whole)
        with self._sending.setdefault(content, threading.Lock()):  # two names of one content: the second waits
            place = self._content.get(content)
            if place is None:
                place = self._upload(state, sums, parts, should_stop)
                self._refuse_if_changed(state)
                self._content[content] = place
        self._sending.pop(content, None)
        key, etag = place
        return FileEntry(state.path, state.size, state.mtime_ns, state.mode, sums.whole, key, etag, sha256)

    def located(self, entry: FileEntry) -> FileEntry | None:
        """Return an entry of this attempt as its content lies now; None when that has been deleted since."""
        place = self._content.get((entry.size, entry.crc64nvme))
        return None if place is None else replace(entry, key=place[0], etag=place[1])

    def moved(self, entry: FileEntry) -> None:
        """Note that content lies at another key from now on."""
        self._content[(entry.size, entry.crc64nvme)] = (entry.key, entry.etag)

    def gone(self, keys_gone: Collection[str]) -> None:
        """Note that objects were deleted: their content is sent again when a file has it."""
        self._content = {content: place for content, place in self._content.items() if place[0] not in keys_gone}
        self.sent.difference_update(keys_gone)

    def _refuse_if_cut(self, path: Path) -> None:
        from holdfast import probes  # noqa: PLC0415  loaded with the first file: no script waits for it at its start

        try:
            finding = probes.probe(path, content_budget=_CONTENT_BUDGET)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileChangedError(f"{path} is gone") from error
        except OSError:
            return  # what cannot be read says so when it is summed up
        if finding.verdict is probes.Verdict.CUT:
            raise CutFileError(f"it is not whole: {finding.reason}")

    def _refuse_if_changed(self, state: FileState) -> None:
        if disk.look(self._directory, state.path) != state:
            raise FileChangedError(f"{state.path} changed while it was read")

    def _upload(
        self, state: FileState, sums: transfer.Checksums, parts: Executor | None, should_stop: Callable[[], bool]
    ) -> tuple[str, str]:
        """Send a file to its plain key, or to a content key when that is taken: nothing is ever overwritten."""
        send = partial(
            transfer.upload_file,
            self._store,
            path=self._directory / state.path,
            size=state.size,
            checksums=sums,
            metadata={keys.OWNER: self._attempt.owner},
            only_if_absent=True,
            workers=parts,
            progress=self._progress,
            should_stop=should_stop,
        )
        etag, key = None, state.path
        if self._plain.is_free(key):
            try:
                with contextlib.suppress(AlreadyExistsError):
                    etag = send(key)
            except (FileChangedError, transfer.StoppedError):
                raise  # nothing has become visible
            except BaseException:
                self._plain.note(key, state.size, None)  # what lies there now is not known
                raise
            self._plain.note(key, state.size, etag)
        if etag is None:
            self._tell_conflict(state, sums)
            key = keys.content_key(self._attempt.number, self.number, self._attempt.slot, state.path)
            etag = send(key)
        self.uploaded += state.size
        self.sent.add(key)
        return key, etag

    def _tell_conflict(self, state: FileState, sums: transfer.Checksums) -> None:
        """Say so when another host of this attempt has stored other content under the same path."""
        if not self._attempt.hosts or state.path in self._told:
            return
        there = self._plain.meet(state.path)
        if there is None or there.origin is not Origin.OTHER_HOST:
            return
        if there.info.size != state.size or there.info.crc64nvme not in (None, sums.whole):
            self._told.add(state.path)
            self._tell(
                f"{state.path!r} has other content on another host: both are kept, and each host gets its own back; "
                "let every rank write under a name of its own"
            )
