"""pull and push: checkpoints from a prefix, and to it, by hand."""

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
        raise ConfigError(f"push: {options.path} is no file or directory with a name of its own")
    if path.is_dir() and not any(path.iterdir()):
        raise ConfigError(f"push: {options.path} is empty")
    scan = disk.scan(path.parent, only=path.name)
    if not scan.files:
        raise ConfigError(f"push: there is nothing in {options.path} that can be stored")
    _refuse_cut(path.parent, scan)
    before = prefix.newest()
    if before is not None and _has(before, path, scan):
        result = {"snapshot": before.name, "files": len(scan.files), "bytes": 0, "checkpoint": path.name}
        output.say(options, result, f"{path.name}: snapshot {before.name} has it already")
        return 0
    claimed = claim.claim(
        prefix.store,
        prefix.found.attempts,
        claim.Claimant(socket.gethostname(), holdfast.__version__, platforms.detect(os.environ)),
        started=datetime.now(UTC),
    )
    # Only behind the fence is it known what the others have committed last.
    prefix = replace(prefix, found=fence.fence(prefix.store, prefix.found, claimed))
    before = prefix.newest()
    base = Base(
        prefix.found,
        before.files() if before else {},
        before.adopted if before else {},
        prefix.find_origins(before),
    )
    with progress.bar("push") as bar:

        def sent(size: int) -> None:
            bar.update(size)

        syncer = assemble(
            Engine(
                store=prefix.store,
                workers=prefix.workers,
                drivers=Workers(FILES_AT_A_TIME),
                clock=lambda: datetime.now(UTC),
                bandwidth=Bandwidth(time.monotonic, progress=sent),
            ),
            path.parent,
            claimed,
            base,
            retention=Retention(last=None),
            only=path.name,
        )
        scan = syncer.scan()
        bar.total = sum(state.size for state in syncer.changes.changed(scan))
        # Every other checkpoint is held, so it stays in the snapshot as it is.
        done = syncer.sync(scan, [name for name in base.files if names.checkpoint_of(name) != path.name])
    if done.unfinished:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in sorted(done.unfinished.items()))
        raise DamagedError(f"push: not stored: {reasons}")
    syncer.tidy()
    if scan.left_out:
        raise ConfigError(f"push: not everything could be stored: {', '.join(sorted(scan.left_out))}")
    name = done.snapshot.name if done.snapshot else (before.name if before else None)
    result = {"snapshot": name, "files": len(scan.files), "bytes": done.bytes_uploaded, "checkpoint": path.name}
    what = f"{path.name}: {counted(len(scan.files), 'file')}, {done.bytes_uploaded:,} bytes sent, snapshot {name}"
    output.say(options, result, what)
    return 0


def _refuse_cut(directory: Path, scan: Scan) -> None:
    """Refuse what is provably not whole, before a prefix is taken over for it.

    Raises:
        DamagedError: with every such file.
    """
    from holdfast import probes  # noqa: PLC0415  pull needs none

    findings = {path: probes.probe(directory / path) for path in scan.files}
    reasons = {path: found.reason for path, found in findings.items() if found.verdict is probes.Verdict.CUT}
    reasons |= probes.probe_checkpoint(directory, scan.files)
    if reasons:
        told = "; ".join(f"{path}: {reason}" for path, reason in sorted(reasons.items()))
        raise DamagedError(f"push: not whole, and not stored: {told}")


def _has(before: Candidate, path: Path, scan: Scan) -> bool:
    """Say whether a snapshot has this checkpoint already, with this content."""
    there = {name: entry for name, entry in before.files().items() if names.checkpoint_of(name) == path.name}
    return there.keys() == scan.files.keys() and all(
        entry.size == scan.files[name].size
        and entry.crc64nvme == parts.checksum_file(path.parent / name, size=entry.size).whole
        for name, entry in there.items()
    )
