"""ls: list the snapshots and checkpoints under a prefix."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from holdfast import names
from holdfast.errors import DamagedError
from holdfast.snapshot.candidates import Candidate
from holdfast.snapshot.ownership import Origin
from holdfast.snapshot.record import FileEntry, Snapshot
from holdfast_entrypoint.cli import output
from holdfast_entrypoint.cli.prefix import Prefix


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """A checkpoint as `ls` prints it."""

    name: str
    files: int
    size: int
    modified: str


def ls(options: argparse.Namespace, prefix: Prefix) -> int:
    """List the snapshots, and the checkpoints in the newest one."""
    chosen = prefix.newest(options.snapshot)
    snapshots = list(prefix.records().items())
    plain_objects = prefix.find_origins(chosen) if options.snapshot is None else {}
    foreign = {
        key: plain.info
        for key, plain in plain_objects.items()
        if plain.origin is Origin.FOREIGN and names.unsafe_reason(key) is None
    }
    checkpoints = _checkpoints(chosen)
    if options.json:
        output.as_json(
            {
                "attempts": list(prefix.found.attempts),
                "snapshots": [_summary(name, entry) for name, entry in snapshots],
                "snapshot": chosen.name if chosen else None,
                "checkpoints": [asdict(checkpoint) for checkpoint in checkpoints],
                "foreign": sorted(foreign),
            }
        )
        return 0
    if not snapshots and not foreign:
        sys.stdout.write("no snapshots and no checkpoints under this prefix: a job on it starts fresh\n")
        return 0
    if snapshots:
        rows = [["SNAPSHOT", "COMMITTED", "FILES", "BYTES", "HOST"]]
        rows += [[str(value) for value in _row(name, entry)] for name, entry in snapshots]
        output.table(rows)
    if checkpoints:
        sys.stdout.write(f"\nin snapshot {chosen.name if chosen else ''}:\n")
        rows = [["CHECKPOINT", "MODIFIED", "FILES", "BYTES"]]
        rows += [[entry.name, entry.modified, str(entry.files), f"{entry.size:,}"] for entry in checkpoints]
        output.table(rows)
    if foreign:
        sys.stdout.write("\nwritten by other tools, adopted at the next restore:\n")
        output.table([[output.printable(key), f"{info.size:,}"] for key, info in sorted(foreign.items())])
    return 0


def _summary(name: str, snapshot: Snapshot | DamagedError) -> dict[str, Any]:
    if isinstance(snapshot, DamagedError):
        return {"name": name, "error": str(snapshot)}
    return {
        "name": name,
        "attempt": snapshot.attempt,
        "created": snapshot.created.isoformat(),
        "host": snapshot.host,
        "files": len(snapshot.files),
        "bytes": snapshot.size,
    }


def _row(name: str, snapshot: Snapshot | DamagedError) -> tuple[object, ...]:
    if isinstance(snapshot, DamagedError):
        return name, "DAMAGED RECORD", "", "", ""
    committed = snapshot.created.strftime("%Y-%m-%d %H:%M:%SZ")
    return name, committed, len(snapshot.files), f"{snapshot.size:,}", output.printable(snapshot.host)


def _checkpoints(snapshot: Candidate | None) -> list[_Checkpoint]:
    groups: dict[str, list[FileEntry]] = {}
    for path, entry in (snapshot.files() if snapshot else {}).items():
        groups.setdefault(names.checkpoint_of(path), []).append(entry)
    newest = {name: max(entry.mtime_ns for entry in entries) for name, entries in groups.items()}
    return [
        _Checkpoint(
            output.printable(name),
            len(groups[name]),
            sum(entry.size for entry in groups[name]),
            datetime.fromtimestamp(newest[name] / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%SZ"),
        )
        for name in sorted(groups, key=lambda name: newest[name])
    ]
