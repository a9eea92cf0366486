"""Choose the foreign objects that a restore adopts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import PurePosixPath

from holdfast import names
from holdfast.restore.plan import UNKNOWN
from holdfast.snapshot.ownership import Origin, PlainObject
from holdfast.snapshot.record import FileEntry

_LOG = logging.getLogger(__name__)


def adoptable_files(plain: Mapping[str, PlainObject], recorded: Mapping[str, FileEntry]) -> dict[str, FileEntry]:
    """Return the foreign files to restore, by path; log those whose names must not or cannot be written."""
    foreign = {key: found.info for key, found in plain.items() if found.origin is Origin.FOREIGN}
    if not foreign:
        return {}
    adopted = {}
    directories = {str(parent) for path in foreign.keys() | recorded.keys() for parent in PurePosixPath(path).parents}
    for key, info in sorted(foreign.items()):
        reason = names.unsafe_reason(key)
        if reason is None and key in directories:
            reason = "other files need a directory of that name"
        if reason is None and any(str(parent) in recorded for parent in PurePosixPath(key).parents):
            reason = "a file of the snapshot stands where its directory should be"
        if reason is None and info.size == 0 and key in recorded and recorded[key].size > 0:
            reason = "another writer has emptied a file of the snapshot"
        if reason is not None:
            _LOG.warning("object %r is not restored: %s", key, reason)
            continue
        modified = int(info.modified * 1e9)
        adopted[key] = FileEntry(
            path=key, size=info.size, mtime_ns=modified, mode=0o644, crc64nvme=UNKNOWN, key=key, etag=info.etag
        )
    return adopted
