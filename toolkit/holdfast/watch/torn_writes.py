"""Suspects: what may be half of something, because the script was killed while it wrote."""

from __future__ import annotations

from pathlib import Path

from holdfast.local.scan import Scan
from holdfast.names import checkpoint_of
from holdfast.probes import Verdict, probe
from holdfast.stop import StopToken
from holdfast.sync.syncer import Syncer
from holdfast.watch.settling import Killed, Settling

_BUDGET = 1 << 30
"""Bytes of a file's content that are summed up to clear it: 0.4 s."""


def dirty(syncer: Syncer, scan: Scan) -> list[str]:
    """Return the paths in which the directory is not as the last snapshot has it."""
    return [*(state.path for state in syncer.changed(scan)), *syncer.vanished(scan)]


def find_suspects(
    syncer: Syncer, settling: Settling, directory: Path, killed: Killed, *, now: float, stop: StopToken
) -> list[str]:
    """Return the paths that stay as the last snapshot has them, as `Settling.cut_off` says.

    Args:
        syncer: knows what is dirty.
        settling: has seen all that happened until the script was dead; learns how the directory looks now.
        directory: the checkpoint directory.
        killed: how the script was ended.
        now: by the clock of `killed`.
        stop: when stopped, no file is read.
    """
    scan = syncer.scan()
    settling.observe(scan.files, now)
    changed = dirty(syncer, scan)

    def is_whole(path: str) -> bool:
        if stop.stopped():
            return False
        try:
            return probe(directory / path, content_budget=_BUDGET).verdict is Verdict.WHOLE
        except OSError:
            return False

    return settling.cut_off(changed, killed, is_whole, syncer.stored_before(changed))


def checkpoints(paths: list[str]) -> list[str]:
    """Return the names of the checkpoints of paths, for the log."""
    return sorted({checkpoint_of(path) for path in paths})
