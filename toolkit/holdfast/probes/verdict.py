"""The result of a probe."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Verdict(enum.Enum):
    """Whether a file is complete."""

    WHOLE = "whole"
    """The checksums of its format cover its content up to the last byte, and are right."""
    CUT = "cut"
    """No complete file of its format can look like this."""
    UNKNOWN = "unknown"
    """Neither is proven."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict and its reason: a clause for the log, in terms of the format."""

    verdict: Verdict
    reason: str


class CutError(Exception):
    """The file ends where its format says that more must follow. Used inside this package only."""


class UnclearError(Exception):
    """The file is not of the format, or too large to decide. Used inside this package only."""


def sized(what: str, *, has: int, needs: int) -> Finding:
    """Return the finding for a format that announces the file's length in bytes, and has no checksum of the content."""
    if has < needs:
        raise CutError(f"{what} of {has:,} bytes that announces {needs:,}")
    if has > needs:
        raise UnclearError(f"{what} with {has - needs:,} bytes after its announced end")
    return Finding(Verdict.UNKNOWN, f"{what} that has its announced length; nothing in it vouches for its content")
