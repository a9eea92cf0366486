"""push: store a file or directory as one checkpoint."""

from __future__ import annotations

import argparse
import os
import socket
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import holdfast
from holdfast import names
from holdfast.attempts import claim, fence
from holdfast.errors import ConfigError, DamagedError
from holdfast.local import scan as disk
from holdfast.local.scan import Scan
from holdfast.maintenance.retention import Retention
from holdfast.restore.base import Base
from holdfast.snapshot.candidates import Candidate
from holdfast.sync.assemble import Engine, assemble
from holdfast.sync.outbox import FILES_AT_A_TIME
from holdfast.sync.syncer import Synced
from holdfast.transfer import parts
from holdfast.wording import counted
from holdfast.workers.bandwidth import Bandwidth
from holdfast.workers.pool import Workers
from holdfast_entrypoint import progress
from holdfast_entrypoint.cli import output
from holdfast_entrypoint.cli.prefix import Prefix
from holdfast_entrypoint.config import platforms


def push(options: argparse.Namespace, prefix: Prefix) -> int:
    """Store a file or directory as one checkpoint beside the others."""
    path: Path = options.path.absolute()
    if not path.exists() or str(options.path) == ".":
        raise ConfigError(f"push: {options.path} is not a file or directory with a name")
    if path.is_dir() and not any(path.iterdir()):
        raise ConfigError(f"push: {options.path} is empty")
    scan = disk.scan(path.parent, only=path.name)
    if not scan.files:
        raise ConfigError(f"push: {options.path} has no files that can be stored")
    _refuse_cut(path.parent, scan)
    before = prefix.newest()
    if before is not None and _has(before, path, scan):
        result = {"snapshot": before.name, "files": len(scan.files), "bytes": 0, "checkpoint": path.name}
        output.say(options, result, f"{path.name}: already in snapshot {before.name}")
        return 0
    scan, done, snapshot = _commit(path, prefix)
    result = {"snapshot": snapshot, "files": len(scan.files), "bytes": done.bytes_uploaded, "checkpoint": path.name}
    files = counted(len(scan.files), "file")
    output.say(options, result, f"{path.name}: {files}, {done.bytes_uploaded:,} bytes sent, snapshot {snapshot}")
    return 0


def _commit(path: Path, prefix: Prefix) -> tuple[Scan, Synced, str | None]:
    """Begin a new attempt and commit the checkpoint; return what was scanned and sent, and the snapshot's name.

    Raises:
        DamagedError: a file was not stored.
        ConfigError: a file cannot be stored.
    """
    claimed = claim.claim(
        prefix.store,
        prefix.found.attempts,
        claim.Claimant(socket.gethostname(), holdfast.__version__, platforms.detect(os.environ)),
        started=datetime.now(UTC),
    )
    # Only behind the fence is the last commit of the other attempts known.
    prefix = replace(prefix, found=fence.fence(prefix.store, prefix.found, claimed))
    before = prefix.newest()
    base = Base(
        found=prefix.found,
        files=before.files() if before else {},
        adopted=before.adopted if before else {},
        plain=prefix.find_origins(before),
    )
    with progress.bar("push") as bar:

        def sent(size: int) -> None:
            bar.update(size)

        engine = Engine(
            store=prefix.store,
            workers=prefix.workers,
            drivers=Workers(FILES_AT_A_TIME),
            clock=lambda: datetime.now(UTC),
            bandwidth=Bandwidth(time.monotonic, progress=sent),
        )
        syncer = assemble(engine, path.parent, claimed, base, retention=Retention(last=None), only=path.name)
        scan = syncer.scan()
        bar.total = sum(state.size for state in syncer.changes.changed(scan))
        # Every other checkpoint is held back, so it stays in the snapshot as it is.
        done = syncer.sync(scan, [name for name in base.files if names.checkpoint_of(name) != path.name])
    if done.unfinished:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in sorted(done.unfinished.items()))
        raise DamagedError(f"push: not stored: {reasons}")
    syncer.tidy()
    if scan.left_out:
        raise ConfigError(f"push: these files cannot be stored: {', '.join(sorted(scan.left_out))}")
    return scan, done, done.snapshot.name if done.snapshot else (before.name if before else None)


def _refuse_cut(directory: Path, scan: Scan) -> None:
    """Refuse files that are provably incomplete, before an attempt is claimed for them.

    Raises:
        DamagedError: it names every such file.
    """
    from holdfast import probes  # noqa: PLC0415  the other commands do not probe

    findings = {path: probes.probe(directory / path) for path in scan.files}
    reasons = {path: found.reason for path, found in findings.items() if found.verdict is probes.Verdict.CUT}
    reasons |= probes.probe_checkpoint(directory, scan.files)
    if reasons:
        listed = "; ".join(f"{path}: {reason}" for path, reason in sorted(reasons.items()))
        raise DamagedError(f"push: incomplete, and not stored: {listed}")


def _has(before: Candidate, path: Path, scan: Scan) -> bool:
    """Return whether a snapshot has this checkpoint with this content."""
    stored = {name: entry for name, entry in before.files().items() if names.checkpoint_of(name) == path.name}
    return stored.keys() == scan.files.keys() and all(
        entry.size == scan.files[name].size
        and entry.crc64nvme == parts.checksum_file(path.parent / name, size=entry.size).whole
        for name, entry in stored.items()
    )
