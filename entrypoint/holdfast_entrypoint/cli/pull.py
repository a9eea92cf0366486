"""holdfast pull."""

from __future__ import annotations

import argparse
from pathlib import Path

from holdfast import names
from holdfast.errors import ConfigError, NoSnapshotError
from holdfast.restore import restorer
from holdfast.wording import counted
from holdfast_entrypoint import progress
from holdfast_entrypoint.cli import output
from holdfast_entrypoint.cli.prefix import Prefix


def pull(options: argparse.Namespace, prefix: Prefix) -> int:
    """Fetch a snapshot into a new directory."""
    directory: Path = options.directory
    # A pull that was cut off leaves its staging behind, and goes on from there.
    if directory.exists() and (not directory.is_dir() or _others_in(directory)):
        raise ConfigError(f"pull: {directory} is not empty: name a new directory, nothing is ever overwritten")
    named = prefix.newest(options.snapshot) if options.snapshot else None
    chosen = None if named is None else [named]
    with progress.shown("pull") as count:
        done = restorer.restore(
            prefix.store, prefix.found, directory, workers=prefix.workers, progress=count,
            candidates=chosen, adopt=chosen is None, checkpoint=options.checkpoint,
        )  # fmt: skip
    if not done.files:
        raise NoSnapshotError("pull: nothing under the prefix matches; `holdfast ls URI` shows what is there")
    result = {
        "snapshot": done.snapshot.name if done.snapshot else None,
        "files": len(done.files),
        "bytes": done.bytes_fetched,
        "directory": str(directory),
    }
    output.say(options, result, f"{counted(len(done.files), 'file')}, {done.bytes_fetched:,} bytes → {directory}")
    return 0


def _others_in(directory: Path) -> bool:
    return any(entry.name != names.OWN_DIRECTORY for entry in directory.iterdir())
