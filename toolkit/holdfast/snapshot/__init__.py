"""The snapshot format: keys, records, lists, and what lies under a prefix (docs/snapshot-format.md)."""
