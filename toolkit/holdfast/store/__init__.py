"""Objects in S3 or in a directory, behind one protocol."""

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
