"""gc: delete by hand what a running job deletes by itself after a commit."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace

from holdfast.attempts import rendezvous
from holdfast.maintenance import retention
from holdfast.maintenance.collect import Collected, Collector
from holdfast.maintenance.expire import Expirer, Plan
from holdfast.maintenance.plain_keys import PlainKeys
from holdfast.maintenance.references import References, Slots
from holdfast.snapshot import keys
from holdfast_entrypoint.cli import output
from holdfast_entrypoint.cli.prefix import Prefix


def gc(options: argparse.Namespace, prefix: Prefix) -> int:
    """Delete what the retention policy does not keep, or print it, with the reasons."""
    policy = retention.parse(options.keep or os.environ.get("CHECKPOINT_RETENTION") or "3", name="--keep")
    plan, collector = _plan(options, prefix, policy)
    if options.dry_run:
        done = Collected(tuple(plan.records), frozenset(plan.objects), len(plan.uploads))
    else:
        done = collector.collect(plan)
    listed = prefix.found.objects()
    every = {**listed.plain, **listed.stored}
    size = sum(every[key].size for key in done.objects if key in every)
    result = {
        "dry_run": options.dry_run,
        "snapshots": list(done.snapshots),
        "objects": sorted(done.objects),
        "bytes": size,
        "uploads": done.uploads,
    }
    verb = "would be deleted" if options.dry_run else "deleted"
    if not options.json:
        sys.stdout.writelines(f"{verb}: snapshot {name} ({plan.records[name]})\n" for name in done.snapshots)
        for key in sorted(done.objects):
            sys.stdout.write(f"{verb}: object {output.printable(key)} ({plan.objects[key]})\n")
    text = f"{len(done.snapshots)} snapshots, {len(done.objects)} objects ({size:,} bytes) and {done.uploads} "
    output.say(options, result, f"{text}unfinished uploads {verb}")
    return 0


def _plan(options: argparse.Namespace, prefix: Prefix, policy: retention.Retention) -> tuple[Plan, Collector]:
    """Return what is to be deleted, and what deletes it."""
    store, found, workers = prefix.store, prefix.found, prefix.workers
    newest = max(found.attempts, default=0)
    chosen = prefix.newest()
    protected = set(chosen.names if chosen else ())
    if not options.ended:  # what the newest attempt has, and what it began from, it may be about to name once more
        protected |= _of_the_newest(prefix, newest)
    slots = Slots(
        newest + options.ended, frozenset({host for number, host in found.joined if number == newest} or {""})
    )
    plain = PlainKeys(store, None, prefix.find_origins(chosen), workers)
    references = References(store, found, slots, plain, workers)
    expirer = Expirer(references, policy, plain, time.time, protected=protected)
    plan = replace(expirer.plan(), uploads=expirer.abandoned_uploads())
    return plan, Collector(store, references, plain, workers)


def _of_the_newest(prefix: Prefix, newest: int) -> set[str]:
    """Return the records of the newest attempt, of the last one before it that has any, and those it began from."""
    numbers = [keys.commit_order(name)[0] for name in prefix.found.snapshots]
    first = max((number for number in numbers if number < newest), default=newest)
    base = rendezvous.read_claim(prefix.store, newest).get("base") if newest else None
    names = {name for name, number in zip(prefix.found.snapshots, numbers, strict=True) if number >= first}
    return names | set(base if isinstance(base, list) else ())
