"""ls, pull, push, verify, gc: the commands that are called by hand, beside or without a job."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from holdfast.snapshot import catalog
from holdfast.store import location
from holdfast.store.open import open_store
from holdfast.workers.concurrency import Concurrency
from holdfast.workers.pool import Workers
from holdfast_entrypoint.cli import gc, ls, pull, push, verify
from holdfast_entrypoint.cli.arguments import Parser
from holdfast_entrypoint.cli.prefix import Prefix


def main(verb: str, arguments: Sequence[str]) -> int:
    """Run one of the verbs and return the exit code.

    Raises:
        HoldfastError: the command cannot be carried out.
    """
    options = _parser(verb).parse_args(arguments)
    place = location.parse(options.uri, name="URI")
    concurrency = Concurrency()
    store = open_store(place, os.environ, concurrency=concurrency)
    with Workers(concurrency=concurrency) as workers:
        return _VERBS[verb](options, Prefix(store, catalog.read_catalog(store), workers))


def _parser(verb: str) -> Parser:
    parser = Parser(prog=f"holdfast {verb}", description=_DESCRIPTION[verb])
    if verb == "push":
        parser.add_argument("path", type=Path, help="file or directory; stored under its own name")
    parser.add_argument("uri", metavar="URI", help="s3://BUCKET/PREFIX or file:///DIRECTORY")
    if verb == "pull":
        parser.add_argument("directory", type=Path, help="target directory; must be empty or absent")
        parser.add_argument(
            "--checkpoint", metavar="NAME", help="name of one checkpoint, as `ls` prints it (default: all)"
        )
    if verb == "gc":
        parser.add_argument("--keep", metavar="POLICY", help=_POLICY)
        parser.add_argument("--dry-run", action="store_true", help="print what would be deleted, and delete nothing")
        parser.add_argument("--ended", action="store_true", help=_ENDED)
    if verb in ("ls", "pull", "verify"):
        parser.add_argument("--snapshot", metavar="NAME", help="name such as 000002-000007 (default: the newest)")
    if verb == "verify":
        parser.add_argument("--all", action="store_true", help="verify every snapshot (default: the newest)")
    parser.add_argument("--json", action="store_true", help="print JSON (default: text)")
    return parser


_VERBS: dict[str, Callable[[argparse.Namespace, Prefix], int]] = {
    "ls": ls.ls,
    "pull": pull.pull,
    "push": push.push,
    "verify": verify.verify,
    "gc": gc.gc,
}
_POLICY = (
    "snapshots to keep: 3 (the last three), 3+6h (and one for every six hours), all, or mirror "
    "(default: CHECKPOINT_RETENTION, or 3)"
)
_ENDED = "no job will continue on this prefix: do not keep what the newest attempt may still need"
_DESCRIPTION = {
    "ls": "List the snapshots under a prefix, and the checkpoints in the newest one. "
    "To run the program ls in a container, write `run -- ls`.",
    "pull": "Download the newest snapshot that verifies, with files that other tools wrote beside it, "
    "or the snapshot that is named.",
    "push": "Store a file or directory as one checkpoint. The other checkpoints of the newest snapshot stay. "
    "This is a new attempt on the prefix: a job that runs there stops at its next commit.",
    "verify": "Read the files of a snapshot back and compare sizes and checksums. "
    "The exit code is 65 if something is damaged.",
    "gc": "Delete the snapshots that the retention policy does not keep, the objects that only they need, what "
    "ended attempts left, and abandoned uploads. A running job does this by itself. Files that other tools wrote stay.",
}
