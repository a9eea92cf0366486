"""gc: what a running job tidies by itself, by hand."""

from __future__ import annotations

import argparse
import os
import sys
import time

from holdfast.attempts import rendezvous
from holdfast.maintenance import retention
from holdfast.maintenance.expire import Expirer, Scope
from holdfast.maintenance.plain_keys import PlainKeys
from holdfast.snapshot import keys
from holdfast_entrypoint.cli import output
from holdfast_entrypoint.cli.prefix import Prefix


def gc(options: argparse.Namespace, prefix: Prefix) -> int:
    """Delete what the retention policy does not keep."""
    policy = retention.parse(options.keep or os.environ.get("CHECKPOINT_RETENTION") or "3", name="--keep")
    found = prefix.found
    newest = max(found.attempts, default=0)
    chosen = prefix.newest()
    protected = set(chosen.names if chosen else ())
    if not options.ended:  # what the newest attempt has, and what it began from, it may be about to name once more
        protected |= _of_the_newest(prefix, newest)
    expirer = Expirer(
        prefix.store,
        policy,
        Scope(newest + options.ended, frozenset({host for number, host in found.joined if number == newest} or {""})),
        found,
        protected=protected,
        plain=PlainKeys(prefix.store, None, prefix.survey(chosen), prefix.workers),
        workers=prefix.workers,
        clock=time.time,
    )
    tidied = expirer.tidy(dry_run=options.dry_run)
    every = {**found.survey().plain, **found.survey().stored}
    size = sum(every[key].size for key in tidied.objects if key in every)
    result = {
        "dry_run": options.dry_run,
        "snapshots": list(tidied.snapshots),
        "objects": sorted(tidied.objects),
        "bytes": size,
        "uploads": tidied.uploads,
    }
    done = "would be deleted" if options.dry_run else "deleted"
    if not options.json:
        sys.stdout.writelines(f"{done}: snapshot {name}\n" for name in tidied.snapshots)
        sys.stdout.writelines(f"{done}: object {output.printable(key)}\n" for key in sorted(tidied.objects))
    text = f"{len(tidied.snapshots)} snapshots, {len(tidied.objects)} objects ({size:,} bytes) and {tidied.uploads} "
    output.say(options, result, f"{text}unfinished uploads {done}")
    return 0


def _of_the_newest(prefix: Prefix, newest: int) -> set[str]:
    """Return the records of the newest attempt, of the last one before it that has any, and those it began from."""
    numbers = [keys.commit_order(name)[0] for name in prefix.found.snapshots]
    first = max((number for number in numbers if number < newest), default=newest)
    base = rendezvous.read_claim(prefix.store, newest).get("base") if newest else None
    names = {name for name, number in zip(prefix.found.snapshots, numbers, strict=True) if number >= first}
    return names | set(base if isinstance(base, list) else ())
