"""What the supervisor says: one line on stderr for each thing an operator should know, without secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping

_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)(_ID)?$", re.IGNORECASE)
_CREDENTIALS_IN_URI = re.compile(r"(?<=://)(?:[^/@\s]+|[^/:@\s]*:[^@\s]+)@")
_PASSWORD_IN_URI = re.compile(r"://[^/@\s:]*:([^/@\s]+)@")
_SHORTEST_SECRET = 6


class Redactor:
    """Replaces the values of secret variables, passwords in URIs among them, and credentials in any URI, by `***`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        values = {
            value for name, value in environ.items() if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_SECRET
        }
        for value in environ.values():
            values.update(_PASSWORD_IN_URI.findall(value))
        # Longest first, so that no secret is left half visible by another that is part of it.
        alternatives = "|".join(re.escape(value) for value in sorted(values, key=len, reverse=True))
        self._values = re.compile(alternatives) if alternatives else None

    def __call__(self, text: str) -> str:
        """Return the text without secrets."""
        text = _CREDENTIALS_IN_URI.sub("***@", text)
        return self._values.sub("***", text) if self._values else text


def teller(environ: Mapping[str, str]) -> Callable[[str], None]:
    """Return the function that says a sentence (or several lines) on stderr."""
    redact = Redactor(environ)

    def tell(text: str) -> None:
        lines = "".join(f"holdfast: {line}\n" for line in redact(text).splitlines())
        try:
            # One write, past Python's buffers: lines of several threads and of the script do not tear each other apart.
            os.write(2, lines.encode(errors="backslashreplace"))
        except OSError:
            return  # nobody reads any more (EPIPE); a checkpoint must not be lost for a log line

    return tell
