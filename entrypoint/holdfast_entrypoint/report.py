"""The report of one life of a container, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from holdfast.sync.ledger import Ledger


@dataclass(kw_only=True, slots=True)
class Report:
    """Report of one life of a container, filled in stage by stage.

    Attributes:
        attempt: number of the attempt, from 1.
        exit_code: exit code of the container.
        script_exit: exit code of the script; None if it never ran.
        resumed_from: name of the newest checkpoint after the restore; None on a fresh start.
        files_restored, bytes_restored: files and bytes from the store.
        bytes_uploaded: bytes of checkpoints that were sent.
        snapshots: number of commits.
        notice: `spot`, `host`, `signal` or `superseded`; None if the script ended by itself.
        flush: ledger of the last flush; None without `CHECKPOINT_S3_URI`.
        seconds_notice_to_durable: from the notice until everything was stored; else None.
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
        """Write the report as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")
