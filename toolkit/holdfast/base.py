"""The base: the state of a prefix from which an attempt goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from holdfast.catalog import Catalog
from holdfast.plain import PlainObject
from holdfast.record import FileEntry


@dataclass(frozen=True, slots=True)
class Base:
    """What an attempt starts from.

    Attributes:
        found: what a listing found under the prefix.
        files: what the newest snapshot that verifies has, by path, with what was adopted.
        adopted: every foreign object that has been taken in so far, key → ETag.
        plain: what lies at the plain keys.
        passed_over: names of newer snapshots that do not verify.
    """

    found: Catalog
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    adopted: Mapping[str, str] = field(default_factory=dict)
    plain: Mapping[str, PlainObject] = field(default_factory=dict)
    passed_over: tuple[str, ...] = ()
