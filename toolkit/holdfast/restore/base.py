"""The base: the state of a prefix from which an attempt goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from holdfast.snapshot.catalog import Catalog
from holdfast.snapshot.ownership import PlainObject
from holdfast.snapshot.record import FileEntry, FileList


@dataclass(frozen=True, slots=True)
class Base:
    """What an attempt starts from.

    Attributes:
        found: what a listing found under the prefix.
        files: what the newest snapshot that verifies has, by path, with what was adopted; of several hosts only what is
            this host's.
        theirs: what it has of other hosts.
        names: of the records of that snapshot.
        lists: where the files are listed that it has; none where its records list them.
        adopted: every foreign object that has been taken in so far, key → ETag.
        plain: what lies at the plain keys.
        passed_over: names of newer snapshots that do not verify.
        absent: paths of files that are not on the disk by our own choice.
        untaken: foreign objects among them, which are in no snapshot yet: key → ETag.
        unsent: paths of files that an earlier life on this directory had finished and could not send: news, whatever
            their size and time.
    """

    found: Catalog
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    adopted: Mapping[str, str] = field(default_factory=dict)
    plain: Mapping[str, PlainObject] = field(default_factory=dict)
    passed_over: tuple[str, ...] = ()
    theirs: Mapping[str, FileEntry] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    lists: tuple[FileList, ...] = ()
    absent: frozenset[str] = frozenset()
    untaken: Mapping[str, str] = field(default_factory=dict)
    unsent: frozenset[str] = frozenset()

    def located(self, entry: FileEntry) -> FileEntry:
        """Return a file with the key at which its content lies: its plain key may have been overwritten since."""
        there, preserved = self.plain.get(entry.key), self.found.objects().stored.get(entry.preserved or "")
        if preserved is None or (there is not None and there.info.etag == entry.etag):
            return entry
        return replace(entry, key=preserved.key, etag=preserved.etag)
