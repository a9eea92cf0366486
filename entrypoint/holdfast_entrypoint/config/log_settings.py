"""HOLDFAST_LOG_LEVEL and HOLDFAST_LOG_FORMAT."""

from __future__ import annotations

import logging
from collections.abc import Mapping

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
FORMATS = ("text", "json")


def read(environ: Mapping[str, str]) -> tuple[int, str, list[str]]:
    """Return the level (default info), the format (default text), and one sentence for each problem."""
    problems = []
    level = environ.get("HOLDFAST_LOG_LEVEL") or "info"
    if level.lower() not in LEVELS:
        problems.append(f"HOLDFAST_LOG_LEVEL must be {', '.join(LEVELS)}; it is {level!r}")
    written = environ.get("HOLDFAST_LOG_FORMAT") or "text"
    if written.lower() not in FORMATS:
        problems.append(f"HOLDFAST_LOG_FORMAT must be {' or '.join(FORMATS)}; it is {written!r}")
    return (
        LEVELS.get(level.lower(), logging.INFO),
        written.lower() if written.lower() in FORMATS else "text",
        problems,
    )
