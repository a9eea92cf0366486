"""The notice file, by which a script sees a notice without a signal handler."""

from __future__ import annotations

import json
from pathlib import Path


def write(path: Path, *, kind: str, stop: bool, stop_by: float | None, deadline: float | None) -> None:
    """Write the notice file atomically.

    Args:
        path: path of HOLDFAST_NOTICE_FILE.
        kind: spot, rebalance, host, signal or superseded.
        stop: whether the script must end.
        stop_by: time at which the script is killed, in seconds since the epoch.
        deadline: time at which the host kills the container, in seconds since the epoch.
    """
    content = {"kind": kind, "stop": stop, "stop_by": stop_by, "deadline": deadline}
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps(content))
    temporary.replace(path)
