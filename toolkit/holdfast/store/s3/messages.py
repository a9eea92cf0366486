"""The forms in which S3 takes and states things: headers and bodies."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence

from holdfast.checksum import from_base64, to_base64
from holdfast.errors import (
    DamagedError,
    TransientStoreError,
)
from holdfast.store import Absent, Condition, Content, Metadata, ObjectRange, Replaces, StoredPart


def parse_xml(body: bytes) -> ET.Element:
    """Parse an answer; its elements lose their name spaces.

    Raises:
        TransientStoreError: it is not XML: cut off, or from somebody in between.
    """
    try:
        root = ET.fromstring(body.strip())  # noqa: S314 - see the import
    except ET.ParseError as error:
        raise TransientStoreError(f"the server's answer is not the XML that S3 sends ({error})") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def text_of(element: ET.Element, name: str) -> str:
    """Return the text of a child element, empty when there is none."""
    return element.findtext(name) or ""


METADATA = "x-amz-meta-"
CHECKSUM = "x-amz-checksum-crc64nvme"


def metadata_headers(metadata: Metadata | None) -> dict[str, str]:
    """Return the headers that give an object its user metadata."""
    return {f"{METADATA}{name}": value for name, value in (metadata or {}).items()}


def metadata_in(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the user metadata that an answer states."""
    return {
        name.lower().removeprefix(METADATA): value
        for name, value in headers.items()
        if name.lower().startswith(METADATA)
    }


def condition_headers(condition: Condition | None) -> dict[str, str]:
    """Return the headers that say what must lie at the key, or that nothing may."""
    match condition:
        case None:
            return {}
        case Absent():
            return {"If-None-Match": "*"}
        case Replaces(etag):
            return if_match(etag)


def if_match(etag: str | None) -> dict[str, str]:
    """Return the header that names the content at the key; none for None."""
    return {} if etag is None else {"If-Match": etag}


def etag_in(root: ET.Element) -> str:
    """Return the ETag that an answer states, with the quotes that belong to it; empty when it states none."""
    etag = text_of(root, "ETag")
    return f'"{etag}"' if etag and '"' not in etag else etag  # radosgw 16 leaves them out


def crc_of(text: str | None) -> int | None:
    """Return the checksum that a server states, None when it states none."""
    try:
        return from_base64(text or "")
    except ValueError:
        return None


def compare(root: ET.Element, source: Content | ObjectRange) -> int | None:
    """Return the checksum of what was copied, as the server says it; None when it does not.

    Raises:
        DamagedError: it is another one than was wanted.
    """
    told = crc_of(text_of(root, "ChecksumCRC64NVME"))
    if told is not None and source.crc64nvme not in (None, told):
        raise DamagedError(f"what was copied of {source.key!r} is not what was recorded: its CRC64NVME is another one")
    return told


def completion(parts: Sequence[StoredPart]) -> bytes:
    """Return the body of a CompleteMultipartUpload."""
    root = ET.Element("CompleteMultipartUpload", xmlns="http://s3.amazonaws.com/doc/2006-03-01/")
    for part in sorted(parts, key=lambda part: part.number):
        entry = ET.SubElement(root, "Part")
        ET.SubElement(entry, "PartNumber").text = str(part.number)
        ET.SubElement(entry, "ETag").text = part.etag
        if part.crc64nvme is not None:
            ET.SubElement(entry, "ChecksumCRC64NVME").text = to_base64(part.crc64nvme)
    return ET.tostring(root)
