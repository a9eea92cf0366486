"""What a probe can say of a file."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Verdict(enum.Enum):
    """Whether a file has its end."""

    WHOLE = "whole"
    """Its own checksums cover its content up to its last byte, and they hold."""
    CUT = "cut"
    """No complete file of its format can look like this."""
    UNKNOWN = "unknown"
    """Nothing is proven, either way."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a probe found.

    Attributes:
        verdict: see `Verdict`.
        reason: one clause for the log, in words of the format.
    """

    verdict: Verdict
    reason: str


class CutError(Exception):
    """The file ends where its format says that more must follow. Never leaves this package."""


class UnclearError(Exception):
    """The file is not what it looked like, or more than may be looked at. Never leaves this package."""


def whole(reason: str) -> Finding:
    """Return the finding that the file is whole."""
    return Finding(Verdict.WHOLE, reason)


def cut(reason: str) -> Finding:
    """Return the finding that the file is cut."""
    return Finding(Verdict.CUT, reason)


def unknown(reason: str) -> Finding:
    """Return the finding that nothing is proven."""
    return Finding(Verdict.UNKNOWN, reason)


def sized(what: str, *, has: int, needs: int) -> Finding:
    """Return what follows from a file's length where the format announces it, but holds no checksum of the content."""
    if has < needs:
        return cut(f"{what} of {has:,} bytes that announces {needs:,}")
    if has > needs:
        return unknown(f"{what} with {has - needs:,} bytes after its announced end")
    return unknown(f"{what} that has its announced length; nothing in it vouches for its content")
