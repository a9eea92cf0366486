"""The snapshot format: keys, records, lists, and the objects under a prefix (docs/snapshot-format.md)."""
