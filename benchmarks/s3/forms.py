"""The XML of S3: answers, and the bodies of requests."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import TypeAlias, Union
from urllib.parse import quote

from benchmarks.s3.buckets import Bucket
from benchmarks.s3.contents import RefusedError, StoredObject

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

# Names and their values: text, or names and values again. A name may come several times.
Fields: TypeAlias = Sequence[tuple[str, Union[str, "Fields"]]]


def document(root: str, fields: Fields) -> bytes:
    """Return an XML document."""
    top = ET.Element(root, xmlns=NAMESPACE)
    _fill(top, fields)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(top)


def _fill(element: ET.Element, fields: Fields) -> None:
    for name, value in fields:
        child = ET.SubElement(element, name)
        if isinstance(value, str):
            child.text = value
        else:
            _fill(child, value)


def error(refused: RefusedError) -> bytes:
    """Return the body of a refusal."""
    root = ET.Element("Error")
    _fill(root, [("Code", refused.code), ("Message", refused.code), *refused.details.items(), ("RequestId", "0")])
    return ET.tostring(root)


def iso(seconds: float) -> str:
    """Return a time as listings state it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


def read_list(body: bytes, entry: str, *names: str) -> list[tuple[str, ...]]:
    """Return the texts of these children of every `entry` in the body of a request.

    Raises:
        RefusedError: it is no XML.
    """
    try:
        root = ET.fromstring(body)
    except ET.ParseError as problem:
        raise RefusedError(400, "MalformedXML") from problem
    found = [element for element in root.iter() if element.tag.rpartition("}")[2] == entry]
    return [tuple(element.findtext(f"{{*}}{name}") or "" for name in names) for element in found]


def listing(name: str, bucket: Bucket, query: Mapping[str, str]) -> bytes:
    """Return a page of ListObjectsV2, or of ListObjects where the query does not say 2."""
    second = query.get("list-type") == "2"
    prefix, delimiter, most = query.get("prefix", ""), query.get("delimiter", ""), int(query.get("max-keys", "1000"))
    after = query.get("continuation-token") or query.get("start-after") if second else query.get("marker")
    keys, groups, more = bucket.page(prefix, after or "", delimiter, most)

    def shown(key: str) -> str:
        return quote(key, safe="/", errors="surrogateescape") if query.get("encoding-type") == "url" else key

    fields: list[tuple[str, str | Fields]] = [
        ("Name", name),
        ("Prefix", shown(prefix)),
        ("MaxKeys", str(most)),
        ("IsTruncated", "false" if more is None else "true"),
    ]
    if query.get("encoding-type"):
        fields.append(("EncodingType", "url"))
    if delimiter:
        fields.append(("Delimiter", shown(delimiter)))
    if second:
        fields.append(("KeyCount", str(len(keys) + len(groups))))
    if more is not None:
        fields.append(("NextContinuationToken", more) if second else ("NextMarker", shown(more)))
    fields += [("Contents", _entry(shown(key), bucket.get(key))) for key in keys]
    fields += [("CommonPrefixes", [("Prefix", shown(group))]) for group in groups]
    return document("ListBucketResult", fields)


def _entry(key: str, stored: StoredObject) -> Fields:
    return [
        ("Key", key),
        ("LastModified", iso(stored.modified)),
        ("ETag", stored.etag),
        ("Size", str(stored.size)),
        ("StorageClass", "STANDARD"),
    ]


def uploads(name: str, bucket: Bucket, prefix: str) -> bytes:
    """Return all uploads under way below a prefix, in one page."""
    fields: list[tuple[str, str | Fields]] = [("Bucket", name), ("EncodingType", "url"), ("IsTruncated", "false")]
    for identity, upload in sorted(bucket.uploads.items(), key=lambda item: (item[1].key, item[0])):
        if upload.key.startswith(prefix):
            key = quote(upload.key, safe="/", errors="surrogateescape")
            fields.append(("Upload", [("Key", key), ("UploadId", identity), ("Initiated", iso(upload.begun))]))
    return document("ListMultipartUploadsResult", fields)


def parts(bucket: Bucket, identity: str, after: int, most: int) -> bytes:
    """Return a page of the parts of an upload."""
    upload = bucket.upload(identity)
    numbers = sorted(number for number in upload.parts if number > after)
    fields: list[tuple[str, str | Fields]] = [
        ("UploadId", identity),
        ("IsTruncated", "true" if len(numbers) > most else "false"),
        ("NextPartNumberMarker", str(numbers[:most][-1] if numbers else after)),
    ]
    for number in numbers[:most]:
        part = upload.parts[number]
        sums = [("ChecksumCRC64NVME", segment.crc64nvme) for segment in part.segments[:1] if segment.crc64nvme]
        sizes = [("ETag", part.etag), ("Size", str(part.size)), ("LastModified", iso(part.modified))]
        fields.append(("Part", [("PartNumber", str(number)), *sizes, *sums]))
    return document("ListPartsResult", fields)
