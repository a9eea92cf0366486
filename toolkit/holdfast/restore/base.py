"""The base of an attempt: the state of the prefix from which it continues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from holdfast.snapshot.catalog import Catalog
from holdfast.snapshot.ownership import PlainObject
from holdfast.snapshot.record import FileEntry, FileList


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What an attempt starts from.

    Attributes:
        files: files of the restored snapshot and adopted ones, by path; of several hosts only those of this host.
        theirs: files of other hosts.
        names: names of the records of that snapshot.
        adopted: every foreign object that has been adopted so far, key → ETag.
        plain: the objects at plain keys.
        passed_over: names of newer snapshots that do not verify.
        deferred: paths of files that are not restored yet, or not at all.
        unadopted: foreign objects among the deferred files, key → ETag. No snapshot has them yet.
        unsent: paths that an earlier attempt in this directory left unsent. They count as changed in any case.
    """

    found: Catalog
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    theirs: Mapping[str, FileEntry] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    lists: tuple[FileList, ...] = ()
    adopted: Mapping[str, str] = field(default_factory=dict)
    plain: Mapping[str, PlainObject] = field(default_factory=dict)
    passed_over: tuple[str, ...] = ()
    deferred: frozenset[str] = frozenset()
    unadopted: Mapping[str, str] = field(default_factory=dict)
    unsent: frozenset[str] = frozenset()

    def located(self, entry: FileEntry) -> FileEntry:
        """Return an entry with the key of its content now: its plain key may have been overwritten since."""
        plain, preserved = self.plain.get(entry.key), self.found.objects().stored.get(entry.preserved or "")
        if preserved is None or (plain is not None and plain.info.etag == entry.etag):
            return entry
        return replace(entry, key=preserved.key, etag=preserved.etag)
