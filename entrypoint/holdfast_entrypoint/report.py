"""The report: what this life did, as JSON for machines."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from holdfast.sync.ledger import Ledger


@dataclass(slots=True)
class Report:
    """What one life of a container did; filled in as it happens.

    Attributes:
        attempt: 1, 2, …
        exit_code: of the container.
        script_exit: of the script; None when it never ran.
        resumed_from: name of the newest checkpoint after the restore; None on a fresh start.
        files_restored, bytes_restored: what came from the store.
        bytes_uploaded: bytes of checkpoints that travelled.
        snapshots: how many were committed.
        notice: spot, host, signal, or superseded: another container has taken over; None when nobody said stop.
        flush: what the last flush did (`holdfast.ledger`); None where nothing was to be watched.
        seconds_notice_to_durable: from the notice until everything was stored; None without a notice, or if it was not.
    """

    attempt: int = 1
    exit_code: int = 0
    script_exit: int | None = None
    resumed_from: str | None = None
    files_restored: int = 0
    bytes_restored: int = 0
    bytes_uploaded: int = 0
    snapshots: int = 0
    notice: str | None = None
    flush: Ledger | None = None
    seconds_notice_to_durable: float | None = None

    def write(self, path: Path) -> None:
        """Write the report."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")
