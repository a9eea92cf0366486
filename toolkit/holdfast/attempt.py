"""Claiming an attempt: one number for one life of a container on a prefix."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from holdfast import checksum, record
from holdfast.errors import AlreadyExistsError
from holdfast.store import Part, Store


@dataclass(frozen=True, slots=True)
class Attempt:
    """A claimed attempt.

    Attributes:
        number: 1, 2, …
        host: the name under which this host commits.
        version: of holdfast.
    """

    number: int
    host: str
    version: str


def claim(store: Store, taken: Sequence[int], *, host: str, version: str, platform: str, started: datetime) -> Attempt:
    """Claim the number after the highest of `taken`; when another container is faster, the next free one.

    Raises:
        StoreError: the claim cannot be written.
    """
    number = max(taken, default=0) + 1
    token = secrets.token_hex(8)
    while True:
        body = json.dumps(
            {
                "format": record.FORMAT,
                "attempt": number,
                "token": token,
                "host": host,
                "platform": platform,
                "started": started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "holdfast": version,
            }
        ).encode()
        part = Part(body, 0, len(body), checksum.crc64nvme(body))
        try:
            # The token makes this object different from any other claim, so a repeated request knows its own.
            store.put(f"{record.ATTEMPTS}{number:06d}.json", part, metadata={record.OWNER: token}, only_if_absent=True)
        except AlreadyExistsError:
            number += 1
            continue
        return Attempt(number, host, version)
