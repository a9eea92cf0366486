"""Find the files that may be torn because the script was killed while it wrote them."""

from __future__ import annotations

import logging
import time

from holdfast.names import checkpoint_of
from holdfast.probes import Verdict, probe
from holdfast.stop import StopToken
from holdfast.sync.syncer import Syncer
from holdfast.watch.settling import Killed, Settling

_LOG = logging.getLogger(__name__)

_BUDGET = 1 << 30
"""Bytes that are read of a file to check its content: 0.4 s."""


def find(syncer: Syncer, settling: Settling, killed: Killed, *, stop: StopToken) -> list[str]:
    """Return the changed paths that may be torn, as `Settling.torn` says; log each checkpoint.

    `settling` has noted every event until the script was dead. When stopped, no file is read.
    """
    now = time.monotonic()
    scan = syncer.scan()
    settling.observe(scan.files, now)
    changed = syncer.changes.dirty(scan)

    def is_whole(path: str) -> bool:
        if stop.stopped():
            return False
        try:
            return probe(syncer.directory / path, content_budget=_BUDGET).verdict is Verdict.WHOLE
        except OSError:
            return False

    torn = settling.torn(changed, killed, is_whole, syncer.changes.stored_before(changed))
    for checkpoint in sorted(set(map(checkpoint_of, torn))):
        _LOG.warning("%r was being written when the script was killed: its last committed version stays", checkpoint)
    return torn
