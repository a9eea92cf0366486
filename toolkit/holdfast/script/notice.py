"""interrupted, remaining: has the script been told to stop."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any


def interrupted() -> bool:
    """Say whether the script has been told to stop: save, and return. Cheap enough to ask at every step."""
    return bool(_notice().get("stop"))


def remaining() -> float:
    """Return the seconds that are left for the script to save and end; infinity when nobody has told it to stop."""
    stop_by = _notice().get("stop_by")
    return max(0.0, stop_by - time.time()) if isinstance(stop_by, int | float) else math.inf


def _notice() -> dict[str, Any]:
    path = os.environ.get("HOLDFAST_NOTICE_FILE")
    if not path:
        return {}
    try:
        notice = json.loads(Path(path).read_bytes())
    except (OSError, ValueError):  # no notice yet; the file is written atomically, so never half of one
        return {}
    return notice if isinstance(notice, dict) else {}
