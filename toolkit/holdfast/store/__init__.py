"""A place that keeps objects: the protocol that every store keeps."""

from holdfast.store.protocol import (
    Absent,
    Condition,
    Content,
    Metadata,
    ObjectInfo,
    ObjectRange,
    Part,
    Replaces,
    Sink,
    Store,
    StoredPart,
    UnfinishedUpload,
    Upload,
)

__all__ = [
    "Absent",
    "Condition",
    "Content",
    "Metadata",
    "ObjectInfo",
    "ObjectRange",
    "Part",
    "Replaces",
    "Sink",
    "Store",
    "StoredPart",
    "UnfinishedUpload",
    "Upload",
]
