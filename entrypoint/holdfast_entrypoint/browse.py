"""ls, pull, push, verify, gc: look at a prefix, move checkpoints by hand, and tidy."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import holdfast
from holdfast import attempt, catalog, joint, keys, location, names, plain, restore, retention, verify
from holdfast.base import Base
from holdfast.catalog import Catalog
from holdfast.errors import ConfigError, DamagedError, NoSnapshotError
from holdfast.joint import Joint
from holdfast.keeping import Keeper, Scope
from holdfast.opening import open_store
from holdfast.plain import Origin, PlainKeys
from holdfast.record import Fence, FileEntry, Snapshot
from holdfast.retention import Retention
from holdfast.store import Store
from holdfast.sync import Syncer
from holdfast_entrypoint import platforms, printing
from holdfast_entrypoint.arguments import Parser

_TRANSFERS = 8
_DAMAGED = 65
_LOOK = "`holdfast ls URI` shows which there are"


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """A checkpoint as `ls` shows it."""

    name: str
    files: int
    size: int
    modified: str


def main(verb: str, arguments: Sequence[str], tell: Callable[[str], None]) -> int:
    """Run one of the verbs and return the exit code.

    Raises:
        HoldfastError: what was asked for cannot be done.
    """
    options = _parser(verb).parse_args(arguments)
    place = location.parse(options.uri, name="URI")
    store = open_store(place, os.environ)
    with ThreadPoolExecutor(_TRANSFERS) as workers:
        code: int = _VERBS[verb](options, store, workers, tell)
    return code


def _parser(verb: str) -> Parser:
    parser = Parser(prog=f"holdfast {verb}", description=_HELP[verb])
    if verb == "push":
        parser.add_argument("path", type=Path, help="a file or a directory; it is stored under its own name")
    parser.add_argument("uri", metavar="URI", help="s3://BUCKET/PREFIX or file:///DIRECTORY")
    if verb == "pull":
        parser.add_argument("directory", type=Path, help="where to; must be empty or missing")
        parser.add_argument("--checkpoint", help="fetch this checkpoint only (a name that ls shows)")
    if verb == "gc":
        parser.add_argument("--keep", metavar="POLICY", help=_POLICY)
        parser.add_argument("--dry-run", action="store_true", help="delete nothing, say what would be deleted")
        parser.add_argument("--ended", action="store_true", help=_ENDED)
    if verb in ("ls", "pull", "verify"):
        parser.add_argument("--snapshot", help="such as 000002-000007 (default: the newest)")
    if verb == "verify":
        parser.add_argument("--all", action="store_true", help="verify every snapshot, not only the newest")
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    return parser


def _ls(options: argparse.Namespace, store: Store, workers: ThreadPoolExecutor, tell: Callable[[str], None]) -> int:
    found = catalog.read_catalog(store)
    chosen = _newest(store, found, options.snapshot, workers, tell)
    snapshots = list(_records(store, found, workers).items())
    others = _survey(store, found, chosen, workers) if options.snapshot is None else {}
    foreign = {
        key: there.info
        for key, there in others.items()
        if there.origin is Origin.FOREIGN and names.unsafe_reason(key) is None
    }
    checkpoints = _checkpoints(chosen)
    if options.json:
        printing.as_json(
            {
                "attempts": list(found.attempts),
                "snapshots": [_summary(name, entry) for name, entry in snapshots],
                "snapshot": chosen.name if chosen else None,
                "checkpoints": [asdict(checkpoint) for checkpoint in checkpoints],
                "foreign": sorted(foreign),
            }
        )
        return 0
    if not snapshots and not foreign:
        sys.stdout.write("no snapshots and no checkpoints here: a job that starts on this prefix starts fresh\n")
        return 0
    if snapshots:
        rows = [["SNAPSHOT", "COMMITTED", "FILES", "BYTES", "HOST"]]
        rows += [[str(value) for value in _row(name, entry)] for name, entry in snapshots]
        printing.table(rows)
    if checkpoints:
        sys.stdout.write(f"\nin snapshot {chosen.name if chosen else ''}:\n")
        rows = [["CHECKPOINT", "MODIFIED", "FILES", "BYTES"]]
        rows += [[entry.name, entry.modified, str(entry.files), f"{entry.size:,}"] for entry in checkpoints]
        printing.table(rows)
    if foreign:
        sys.stdout.write("\nwritten by others, adopted at the next restore:\n")
        printing.table([[printing.printable(key), f"{info.size:,}"] for key, info in sorted(foreign.items())])
    return 0


def _pull(options: argparse.Namespace, store: Store, workers: ThreadPoolExecutor, tell: Callable[[str], None]) -> int:
    directory: Path = options.directory
    # A pull that was cut off leaves its staging behind, and goes on from there.
    if directory.exists() and (not directory.is_dir() or _others_in(directory)):
        raise ConfigError(f"pull: {directory} is not empty: name a new directory, nothing is ever overwritten")
    found = catalog.read_catalog(store)
    with printing.bar("pull") as (bar, note):

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        done = restore.restore(
            store, found, directory, workers=workers, tell=note, progress=progress,
            only=(options.snapshot,) if options.snapshot else None, checkpoint=options.checkpoint,
        )  # fmt: skip
    if not done.base.files:
        raise NoSnapshotError("pull: nothing of that is here; `holdfast ls URI` shows what is")
    result = {
        "snapshot": done.snapshot.name if done.snapshot else None,
        "files": len(done.base.files),
        "bytes": done.bytes_fetched,
        "directory": str(directory),
    }
    _say(options, result, f"{result['files']} files, {result['bytes']:,} bytes → {directory}")
    return 0


def _push(options: argparse.Namespace, store: Store, workers: ThreadPoolExecutor, tell: Callable[[str], None]) -> int:
    path: Path = options.path.absolute()
    if not path.exists() or str(options.path) == ".":
        raise ConfigError(f"push: {options.path} is no file or directory with a name of its own")
    if path.is_dir() and not any(path.iterdir()):
        raise ConfigError(f"push: {options.path} is empty")
    found = catalog.read_catalog(store)
    before = _newest(store, found, None, workers, tell)
    base = Base(
        found,
        before.files() if before else {},
        before.adopted if before else {},
        _survey(store, found, before, workers),
    )
    claimed = attempt.claim(
        store,
        found.attempts,
        host=socket.gethostname(),
        version=holdfast.__version__,
        platform=platforms.detect(os.environ),
        started=datetime.now(UTC),
    )
    found = attempt.fence(store, found, claimed)
    with printing.bar("push") as (bar, note):

        def sent(size: int) -> None:
            bar.update(size)

        syncer = Syncer(
            store,
            path.parent,
            claimed,
            base,
            retention=Retention(last=None),
            workers=workers,
            clock=lambda: datetime.now(UTC),
            tell=note,
            only=path.name,
            progress=sent,
        )
        scan = syncer.scan()
        if not scan.files:
            raise ConfigError(f"push: there is nothing in {options.path} that can be stored")
        bar.total = sum(state.size for state in syncer.changed(scan))
        # Every other checkpoint is held, so it stays in the snapshot as it is.
        done = syncer.sync(scan, [name for name in base.files if names.checkpoint_of(name) != path.name])
    if not done.unfinished:
        syncer.tidy()
    if done.unfinished:
        raise DamagedError(f"push: not stored, because it is being written: {', '.join(sorted(done.unfinished))}")
    if scan.left_out:
        raise ConfigError(f"push: not everything could be stored: {', '.join(sorted(scan.left_out))}")
    name = done.snapshot.name if done.snapshot else (before.name if before else None)
    result = {"snapshot": name, "files": len(scan.files), "bytes": done.bytes_uploaded, "checkpoint": path.name}
    what = f"snapshot {name}" if done.snapshot else f"snapshot {name} had it already"
    _say(options, result, f"{path.name}: {len(scan.files)} files, {done.bytes_uploaded:,} bytes sent, {what}")
    return 0


def _verify(options: argparse.Namespace, store: Store, workers: ThreadPoolExecutor, tell: Callable[[str], None]) -> int:
    found = catalog.read_catalog(store)
    records = _records(store, found, workers)
    if options.snapshot is not None and options.snapshot not in records:
        raise NoSnapshotError(f"there is no snapshot {options.snapshot!r} here; {_LOOK}")
    newest = [options.snapshot] if options.snapshot else list(records)[-1:]
    wanted = list(records) if options.all else newest
    if not wanted:
        raise NoSnapshotError("verify: there are no snapshots here; `holdfast ls URI` shows what is")
    results: list[dict[str, Any]] = []
    with printing.bar("verify") as (bar, _):
        checked: dict[tuple[str, str, int], str | None] = {}
        for name in wanted:
            entry = records[name]
            problems = (
                [str(entry)]
                if isinstance(entry, DamagedError)
                else verify.verify(store, entry, checked, workers=workers, progress=bar.update)
            )
            results.append({"snapshot": name, "ok": not problems, "problems": problems})
    if options.json:
        printing.as_json({"snapshots": results})
    else:
        for result in results:
            sys.stdout.write(f"{result['snapshot']}  {'ok' if result['ok'] else 'DAMAGED'}\n")
            sys.stdout.writelines(f"    {problem}\n" for problem in result["problems"])
    return 0 if all(result["ok"] for result in results) else _DAMAGED


def _gc(options: argparse.Namespace, store: Store, workers: ThreadPoolExecutor, tell: Callable[[str], None]) -> int:
    policy = retention.parse(options.keep or os.environ.get("CHECKPOINT_RETENTION") or "3", name="--keep")
    found = catalog.read_catalog(store)
    newest = max(found.attempts, default=0)
    there = _survey(store, found, _newest(store, found, None, workers, tell), workers)
    keeper = Keeper(
        store,
        policy,
        Scope(newest + options.ended, frozenset({host for number, host in found.joined if number == newest} or {""})),
        found,
        # What the newest attempt has, and what it started from, it may be about to name once more.
        protected=() if options.ended else _of_the_newest(found, newest),
        plain=PlainKeys(store, None, there, workers),
        workers=workers,
        clock=time.time,
    )
    tidied = keeper.tidy(dry_run=options.dry_run)
    every = {**found.plain, **found.stored}
    size = sum(every[key].size for key in tidied.objects if key in every)
    result = {
        "dry_run": options.dry_run,
        "snapshots": list(tidied.snapshots),
        "objects": sorted(tidied.objects),
        "bytes": size,
        "uploads": tidied.uploads,
    }
    if options.dry_run and not options.json:
        sys.stdout.writelines(f"would delete snapshot {name}\n" for name in tidied.snapshots)
        sys.stdout.writelines(f"would delete object {printing.printable(key)}\n" for key in sorted(tidied.objects))
    done = "would be deleted" if options.dry_run else "deleted"
    text = f"{len(tidied.snapshots)} snapshots, {len(tidied.objects)} objects ({size:,} bytes) and {tidied.uploads} "
    _say(options, result, f"{text}unfinished uploads {done}")
    return 0


def _of_the_newest(found: Catalog, newest: int) -> list[str]:
    """Return the records of the newest attempt and of the last one before it that has any: what it started from."""
    numbers = [keys.commit_order(name)[0] for name in found.snapshots]
    first = max((number for number in numbers if number < newest), default=newest)
    return [name for name, number in zip(found.snapshots, numbers, strict=True) if number >= first]


_VERBS: dict[str, Callable[[argparse.Namespace, Store, ThreadPoolExecutor, Callable[[str], None]], int]] = {
    "ls": _ls,
    "pull": _pull,
    "push": _push,
    "verify": _verify,
    "gc": _gc,
}
_POLICY = (
    "3: the last three snapshots; 3+6h: and one for every six hours; all; mirror (default: CHECKPOINT_RETENTION, or 3)"
)
_ENDED = "nobody trains here any more: without it, all that the newest attempt may still need stays"
_HELP = {
    "ls": "List the snapshots under a prefix and the checkpoints in the newest one. "
    "To run the command ls in a container: run -- ls",
    "pull": "Fetch the newest snapshot that verifies (with what others wrote beside it), or a named one.",
    "push": "Store a file or directory as one checkpoint; the other checkpoints of the newest snapshot stay. "
    "This takes the prefix over: a job that still runs there is stopped at its next commit.",
    "verify": "Read the files of a snapshot back and compare size and checksum; "
    "exit code 65 when something is damaged.",
    "gc": "Delete the snapshots that the retention policy does not keep and everything that only they needed, what "
    "dead attempts left, and abandoned uploads. A running job does this by itself. What somebody else wrote stays.",
}


def _newest(
    store: Store, found: Catalog, name: str | None, workers: ThreadPoolExecutor, tell: Callable[[str], None]
) -> Joint | None:
    """Return the named snapshot, or the newest whose records hold."""
    if name is not None:
        loaded = catalog.load_record(store, name) if name in found.snapshots else None
        if not isinstance(loaded, Snapshot):
            raise NoSnapshotError(f"there is no snapshot {name!r} here; {_LOOK}")
        return Joint((loaded,))
    for candidate in joint.newest_first(store, found, workers):
        if isinstance(candidate, Joint):
            return candidate
        tell(str(candidate))
    return None


def _survey(
    store: Store, found: Catalog, chosen: Joint | None, workers: ThreadPoolExecutor
) -> dict[str, plain.PlainObject]:
    recorded = chosen.files().values() if chosen else ()
    return plain.survey(store, found, recorded, chosen.adopted if chosen else {}, None, workers)


def _records(store: Store, found: Catalog, workers: ThreadPoolExecutor) -> dict[str, Snapshot | DamagedError]:
    """Read every record, oldest first; the fences among them are nobody's business here."""

    def load(name: str) -> Snapshot | Fence | DamagedError:
        try:
            return catalog.load_record(store, name)
        except DamagedError as error:
            return error

    loaded = zip(found.snapshots, workers.map(load, found.snapshots), strict=True)
    return {name: entry for name, entry in loaded if not isinstance(entry, Fence)}


def _summary(name: str, snapshot: Snapshot | DamagedError) -> dict[str, Any]:
    if isinstance(snapshot, DamagedError):
        return {"name": name, "error": str(snapshot)}
    return {
        "name": name,
        "attempt": snapshot.attempt,
        "created": snapshot.created.isoformat(),
        "host": snapshot.host,
        "files": len(snapshot.files),
        "bytes": snapshot.size,
    }


def _row(name: str, snapshot: Snapshot | DamagedError) -> tuple[object, ...]:
    if isinstance(snapshot, DamagedError):
        return name, "DAMAGED RECORD", "", "", ""
    committed = snapshot.created.strftime("%Y-%m-%d %H:%M:%SZ")
    return name, committed, len(snapshot.files), f"{snapshot.size:,}", printing.printable(snapshot.host)


def _checkpoints(snapshot: Joint | None) -> list[_Checkpoint]:
    groups: dict[str, list[FileEntry]] = {}
    for path, entry in (snapshot.files() if snapshot else {}).items():
        groups.setdefault(names.checkpoint_of(path), []).append(entry)
    newest = {name: max(entry.mtime_ns for entry in entries) for name, entries in groups.items()}
    return [
        _Checkpoint(
            printing.printable(name),
            len(groups[name]),
            sum(entry.size for entry in groups[name]),
            datetime.fromtimestamp(newest[name] / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%SZ"),
        )
        for name in sorted(groups, key=lambda name: newest[name])
    ]


def _others_in(directory: Path) -> bool:
    return any(entry.name != names.OWN_DIRECTORY for entry in directory.iterdir())


def _say(options: argparse.Namespace, result: dict[str, Any], text: str) -> None:
    if options.json:
        printing.as_json(result)
    else:
        sys.stdout.write(text + "\n")
