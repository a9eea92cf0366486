"""A place that keeps objects: the protocol that every store keeps."""

from holdfast.store.protocol import ObjectInfo, Part, Sink, Store, StoredPart, UnfinishedUpload, Upload

__all__ = ["ObjectInfo", "Part", "Sink", "Store", "StoredPart", "UnfinishedUpload", "Upload"]
