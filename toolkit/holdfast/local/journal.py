"""Notes in `.holdfast/` that survive a kill, for the next attempt on the same disk: one JSON value a line."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from holdfast.fsync import fsync

_FORMAT = 1

T = TypeVar("T")


class JournalError(Exception):
    """A journal is there and cannot be read."""


@dataclass(frozen=True, slots=True)
class Journal:
    """One file of notes: a header, then lines. Lines may be appended from several threads.

    A journal belongs to one upload, or to one call of `Unsent.note`, and ends with it: it is never compacted.
    """

    file: Path

    def begin(self, header: dict[str, Any], lines: Iterable[object] = (), *, durable: bool = False) -> None:
        """Replace the file atomically; `durable`: it is on the disk when this returns."""
        self.file.parent.mkdir(exist_ok=True)
        beside = self.file.with_suffix(".tmp")
        beside.write_bytes(b"".join(map(_encoded, [{"format": _FORMAT} | header, *lines])))
        if durable:
            fsync(beside)
        beside.replace(self.file)
        if durable:
            fsync(self.file.parent)

    def append(self, line: object, *, durable: bool = False) -> None:
        """Add a line to the file that `begin` has written."""
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(descriptor, _encoded(line))  # one call: lines of several threads do not mix
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self, parse: Callable[[dict[str, Any], list[Any]], T]) -> T | None:
        """Return `parse(header, lines)`; None where there is no file.

        A torn line is left out. Without it some work is done again, and nothing is lost.

        Raises:
            JournalError: the header is torn or of another format, or `parse` has failed.
        """
        try:
            header, *lines = self.file.read_bytes().split(b"\n")[:-1] or [b""]
            value = json.loads(header)
            if value.pop("format") != _FORMAT:
                raise ValueError("another version of holdfast has written it")
            return parse(value, [*_decoded(lines)])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise JournalError(repr(error)) from error

    def remove(self) -> None:
        """Remove the file, and its folder if that is empty. Errors are ignored."""
        with contextlib.suppress(OSError):
            self.file.unlink(missing_ok=True)
            self.file.parent.rmdir()


def _encoded(line: object) -> bytes:
    return json.dumps(line).encode() + b"\n"


def _decoded(lines: Iterable[bytes]) -> Iterable[Any]:
    for line in lines:
        with contextlib.suppress(ValueError):
            yield json.loads(line)
