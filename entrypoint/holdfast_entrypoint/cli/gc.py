"""gc: delete by hand what a running job deletes by itself after a commit."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import replace

from holdfast.attempts import rendezvous
from holdfast.maintenance import retention
from holdfast.maintenance.collect import Collector
from holdfast.maintenance.expire import Expirer, Plan
from holdfast.maintenance.plain_keys import PlainKeys
from holdfast.maintenance.references import References, Slots
from holdfast.snapshot import keys
from holdfast_entrypoint.cli import output
from holdfast_entrypoint.cli.prefix import Prefix


def gc(options: argparse.Namespace, prefix: Prefix) -> int:
    """Delete what the retention policy does not keep; with `--dry-run`, print it and why."""
    policy = retention.parse(options.keep or os.environ.get("CHECKPOINT_RETENTION") or "3", name="--keep")
    plan, collector = _plan(options, prefix, policy)
    if options.dry_run:
        return _report(options, prefix, plan, plan.records, plan.objects, len(plan.uploads))
    done = collector.collect(plan)
    return _report(options, prefix, plan, done.snapshots, done.objects, done.uploads)


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


def _report(
    options: argparse.Namespace,
    prefix: Prefix,
    plan: Plan,
    snapshots: Iterable[str],
    objects: Iterable[str],
    uploads: int,
) -> int:
    listed = prefix.found.objects()
    every = {**listed.plain, **listed.stored}
    snapshots, objects = list(snapshots), sorted(objects)
    size = sum(every[key].size for key in objects if key in every)
    result = {
        "dry_run": options.dry_run,
        "snapshots": snapshots,
        "objects": objects,
        "bytes": size,
        "uploads": uploads,
    }
    done = "would be deleted" if options.dry_run else "deleted"
    if not options.json:
        sys.stdout.writelines(f"{done}: snapshot {name} ({plan.records[name]})\n" for name in snapshots)
        sys.stdout.writelines(f"{done}: object {output.printable(key)} ({plan.objects[key]})\n" for key in objects)
    text = f"{len(snapshots)} snapshots, {len(objects)} objects ({size:,} bytes) and {uploads} "
    output.say(options, result, f"{text}unfinished uploads {done}")
    return 0


def _of_the_newest(prefix: Prefix, newest: int) -> set[str]:
    """Return the records of the newest attempt, of the last one before it that has any, and those it began from."""
    numbers = [keys.commit_order(name)[0] for name in prefix.found.snapshots]
    first = max((number for number in numbers if number < newest), default=newest)
    base = rendezvous.read_claim(prefix.store, newest).get("base") if newest else None
    names = {name for name, number in zip(prefix.found.snapshots, numbers, strict=True) if number >= first}
    return names | set(base if isinstance(base, list) else ())
