"""After a commit: plain keys follow the newest snapshot, old snapshots and orphans are deleted."""
