"""Write log records to stderr, as text or JSON, without secrets."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

from holdfast_entrypoint.config import log_settings, platforms
from holdfast_entrypoint.config.platforms import Platform

LOGGERS = ("holdfast", "holdfast_entrypoint")

_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)(_ID)?$", re.IGNORECASE)
_CREDENTIALS_IN_URI = re.compile(r"(?<=://)(?:[^/@\s]+|[^/:@\s]*:[^@\s]+)@")
_PASSWORD_IN_URI = re.compile(r"://[^/@\s:]*:([^/@\s]+)@")
_SHORTEST_SECRET = 6
_STAMPED = frozenset({Platform.SAGEMAKER, Platform.BATCH, Platform.ECS, Platform.KUBERNETES})
"""Platforms whose log drivers add the time of each line."""
_bars: list[Callable[[], None]] = []
"""Functions that clear the progress bars on the screen."""


class Redactor:
    """Replace the values of secret variables, and credentials in URIs, by `***`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        values = {
            value for name, value in environ.items() if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_SECRET
        }
        values.update(*map(_PASSWORD_IN_URI.findall, environ.values()))
        # Longest first: one secret may be a part of another.
        alternatives = "|".join(re.escape(value) for value in sorted(values, key=len, reverse=True))
        self._values = re.compile(alternatives) if alternatives else None

    def __call__(self, text: str) -> str:
        """Return the text without secrets."""
        text = _CREDENTIALS_IN_URI.sub("***@", text)
        return self._values.sub("***", text) if self._values else text


def install(environ: Mapping[str, str], *, by_hand: bool) -> None:
    """Send log records to stderr, as the environment says. `config.reader` reports wrong settings.

    Args:
        by_hand: whether a person called the command: its lines have no time.
    """
    level, form, _ = log_settings.read(environ)
    handler = StderrHandler(Redactor(environ), as_json=form == "json", timed=not by_hand and needs_time(environ))
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.propagate = False
        logger.addHandler(handler)


def needs_time(environ: Mapping[str, str]) -> bool:
    """Say whether lines need the time: not on a terminal, nor where the reader of stderr adds it."""
    return not (
        os.getpid() == 1  # a container engine adds it
        or os.isatty(2)
        or _is_journal(environ)
        or platforms.detect(environ) in _STAMPED
    )


def _is_journal(environ: Mapping[str, str]) -> bool:
    """Say whether stderr is journald's; a process with stderr in a file inherits the variable too."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class StderrHandler(logging.Handler):
    """Write each record to stderr.

    Args:
        redact: removes secrets from a text.
        as_json: whether a record is a JSON object on one line, not text.
        timed: whether text begins with the time, UTC; JSON always has it.
    """

    def __init__(self, redact: Callable[[str], str], *, as_json: bool, timed: bool) -> None:
        super().__init__()
        self._redact = redact
        self._as_json = as_json
        self._timed = timed

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or drop it: a failed write must not cost a checkpoint."""
        try:
            message = self.format(record)
        except Exception:  # noqa: BLE001  values that do not fit the format
            message = f"{record.msg} {record.args}"
        lines = (self._json if self._as_json else self._text)(record, self._redact(message))
        with contextlib.suppress(OSError):  # the reader is gone (EPIPE)
            for clear in _bars:
                clear()
            # One write, past Python's buffers: lines of threads and of the script do not mix.
            os.write(2, lines.encode(errors="backslashreplace"))

    def _text(self, record: logging.LogRecord, message: str) -> str:
        prefix = f"{_time(record, 'seconds')} holdfast: " if self._timed else "holdfast: "
        if record.levelno != logging.INFO:
            prefix += f"{record.levelname.lower()}: "
        return "".join(f"{prefix}{line}\n" for line in message.splitlines())

    def _json(self, record: logging.LogRecord, message: str) -> str:
        fields = {
            "time": _time(record, "milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
        }
        return json.dumps(fields, ensure_ascii=False) + "\n"


def _time(record: logging.LogRecord, precision: str) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec=precision).replace("+00:00", "Z")


@contextmanager
def beside_bar(clear: Callable[[], None]) -> Iterator[None]:
    """Call `clear`, which clears a progress bar, before each record."""
    _bars.append(clear)
    try:
        yield
    finally:
        _bars.remove(clear)
