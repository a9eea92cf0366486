"""pull: download a snapshot, or one checkpoint of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from holdfast import names
from holdfast.errors import ConfigError, NoSnapshotError
from holdfast.restore import restorer
from holdfast.restore.request import Request
from holdfast.wording import counted
from holdfast_entrypoint import progress
from holdfast_entrypoint.cli import output
from holdfast_entrypoint.cli.prefix import LIST, Prefix


def pull(options: argparse.Namespace, prefix: Prefix) -> int:
    """Download a snapshot into a new directory."""
    directory: Path = options.directory
    # An earlier pull that was interrupted leaves its staging directory, and this one continues from it.
    if directory.exists() and (not directory.is_dir() or _has_files(directory)):
        raise ConfigError(f"pull: {directory} is not an empty directory: give another one, no file is overwritten")
    named = prefix.newest(options.snapshot) if options.snapshot else None
    chosen = None if named is None else [named]
    request = Request(candidates=chosen, adopt=chosen is None, checkpoint=options.checkpoint)
    with progress.shown("pull") as count:
        done = restorer.restore(prefix.store, prefix.found, directory, request, workers=prefix.workers, progress=count)
    if not done.files:
        raise NoSnapshotError(f"pull: no file under this prefix matches; {LIST}, and the checkpoints")
    result = {
        "snapshot": done.snapshot.name if done.snapshot else None,
        "files": len(done.files),
        "bytes": done.bytes_fetched,
        "directory": str(directory),
    }
    output.say(options, result, f"{counted(len(done.files), 'file')}, {done.bytes_fetched:,} bytes → {directory}")
    return 0


def _has_files(directory: Path) -> bool:
    return any(entry.name != names.OWN_DIRECTORY for entry in directory.iterdir())
