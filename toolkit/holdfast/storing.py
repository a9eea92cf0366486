"""Storing: one file of the checkpoint directory becomes content in the store, sent once and never over anything."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

from holdfast import disk, keys, probes, transfer
from holdfast.attempt import Attempt
from holdfast.disk import FileState
from holdfast.errors import AlreadyExistsError, CutFileError, FileChangedError
from holdfast.plain import PlainKeys
from holdfast.record import FileEntry
from holdfast.store import Store


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
    ) -> None:
        self.uploaded = 0
        """Bytes of content that travelled in this attempt."""
        self.number = 0
        """Of the pass: what makes content keys differ."""
        self._store = store
        self._directory = directory
        self._attempt = attempt
        self._plain = plain
        self._content = {(entry.size, entry.crc64nvme): (entry.key, entry.etag) for entry in known}
        self._progress = progress

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
        self._refuse_if_changed(state)
        place = self._content.get((state.size, sums.whole))
        if place is None:
            place = self._upload(state, sums, parts, should_stop)
            self._refuse_if_changed(state)
            self._content[(state.size, sums.whole)] = place
        key, etag = place
        return FileEntry(state.path, state.size, state.mtime_ns, state.mode, sums.whole, key, etag)

    def moved(self, entry: FileEntry) -> None:
        """Note that content lies at another key from now on."""
        self._content[(entry.size, entry.crc64nvme)] = (entry.key, entry.etag)

    def gone(self, keys_gone: Collection[str]) -> None:
        """Note that objects were deleted: their content is sent again when a file has it."""
        self._content = {content: place for content, place in self._content.items() if place[0] not in keys_gone}

    def _refuse_if_cut(self, path: Path) -> None:
        finding = probes.probe(path)
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
            finally:
                self._plain.note(key, state.size, etag)  # also when it fails: what lies there then is not known
        if etag is None:
            key = keys.content_key(self._attempt.number, self.number, self._attempt.slot, state.path)
            etag = send(key)
        self.uploaded += state.size
        return key, etag
