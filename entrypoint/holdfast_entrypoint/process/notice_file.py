"""The notice file: how a script hears of a notice without a signal handler."""

from __future__ import annotations

import json
from pathlib import Path


def write(path: Path, *, kind: str, stop: bool, stop_by: float | None, deadline: float | None) -> None:
    """Write the notice, whole or not at all.

    Args:
        path: HOLDFAST_NOTICE_FILE.
        kind: spot, rebalance, signal or host.
        stop: whether the script has to end.
        stop_by: when the script must have ended, seconds since the epoch.
        deadline: when the host kills the container, seconds since the epoch.
    """
    content = {"kind": kind, "stop": stop, "stop_by": stop_by, "deadline": deadline}
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps(content))
    temporary.replace(path)
