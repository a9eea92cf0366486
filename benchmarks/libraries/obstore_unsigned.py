"""obstore without the SHA-256 of every payload, which TLS makes needless."""

from __future__ import annotations

from benchmarks.libraries import obstore_default
from benchmarks.libraries.place import Place


def upload(place: Place) -> None:
    obstore_default.upload(place, unsigned_payload=True)


def download(place: Place) -> None:
    obstore_default.download(place, unsigned_payload=True)
