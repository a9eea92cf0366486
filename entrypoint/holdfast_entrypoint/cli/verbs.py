"""ls, pull, push, verify, gc: the commands that people and scripts call by hand, beside or without a job."""

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
        HoldfastError: what was asked for cannot be done.
    """
    options = _parser(verb).parse_args(arguments)
    place = location.parse(options.uri, name="URI")
    concurrency = Concurrency()
    store = open_store(place, os.environ, concurrency=concurrency)
    with Workers(concurrency=concurrency) as workers:
        return _VERBS[verb](options, Prefix(store, catalog.read_catalog(store), workers))


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


_VERBS: dict[str, Callable[[argparse.Namespace, Prefix], int]] = {
    "ls": ls.ls,
    "pull": pull.pull,
    "push": push.push,
    "verify": verify.verify,
    "gc": gc.gc,
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
