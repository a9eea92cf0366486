"""interrupted, remaining: whether the script must stop, and by when."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any


def interrupted() -> bool:
    """Return whether the script must save and end. Reads one small file: cheap enough for every step."""
    return bool(_notice().get("stop"))


def remaining() -> float:
    """Return the seconds left to save and end; infinity while there is no deadline."""
    stop_by = _notice().get("stop_by")
    return max(0.0, stop_by - time.time()) if isinstance(stop_by, int | float) else math.inf


def _notice() -> dict[str, Any]:
    path = os.environ.get("HOLDFAST_NOTICE_FILE")
    if not path:
        return {}
    try:
        notice = json.loads(Path(path).read_bytes())
    except (OSError, ValueError):  # no notice yet; the file is written atomically
        return {}
    return notice if isinstance(notice, dict) else {}
