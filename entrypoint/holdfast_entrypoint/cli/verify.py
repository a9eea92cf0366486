"""verify: read stored files back and compare their checksums."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import Any

from holdfast.errors import DamagedError, NoSnapshotError
from holdfast.snapshot import verify as engine
from holdfast.store import Content
from holdfast_entrypoint import exit_codes, progress
from holdfast_entrypoint.cli import output
from holdfast_entrypoint.cli.prefix import LIST, Prefix


def verify(options: argparse.Namespace, prefix: Prefix) -> int:
    """Read the files of snapshots back and compare them with their records."""
    records = prefix.records()
    if options.snapshot is not None and options.snapshot not in records:
        raise NoSnapshotError(f"no snapshot {options.snapshot!r} under this prefix; {LIST}")
    newest = [options.snapshot] if options.snapshot else _newest(prefix, records)
    wanted = list(records) if options.all else newest
    if not wanted:
        raise NoSnapshotError(f"verify: no snapshots under this prefix; {LIST}")
    results: list[dict[str, Any]] = []
    with progress.bar("verify") as bar:
        checked: dict[Content, str | None] = {}
        for name in wanted:
            entry = records[name]
            problems = (
                [str(entry)]
                if isinstance(entry, DamagedError)
                else engine.verify(prefix.store, entry, checked, workers=prefix.workers, progress=bar.update)
            )
            results.append({"snapshot": name, "ok": not problems, "problems": problems})
    if options.json:
        output.as_json({"snapshots": results})
    else:
        for result in results:
            sys.stdout.write(f"{result['snapshot']}  {'ok' if result['ok'] else 'DAMAGED'}\n")
            sys.stdout.writelines(f"    {problem}\n" for problem in result["problems"])
    return 0 if all(result["ok"] for result in results) else exit_codes.NOTHING_VERIFIES


def _newest(prefix: Prefix, records: Iterable[str]) -> list[str]:
    """Return the names of the records that a restore would take; where none verifies, of the last."""
    chosen = prefix.newest()
    return list(chosen.names) if chosen else list(records)[-1:]
