"""Headers and XML bodies of S3 requests and answers."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field

from holdfast.checksum import from_base64, to_base64
from holdfast.errors import TransientStoreError
from holdfast.store import Absent, Condition, Metadata, Part, Replaces, StoredPart


@dataclass(frozen=True, slots=True)
class Request:
    """A request to make, before it is addressed and signed.

    Attributes:
        action: its purpose, for error messages, without the key: "storing".
        key: None for the bucket itself.
        permission: the IAM permission that it needs.
        headers: without those of signature and length.
    """

    method: str
    action: str
    key: str | None
    permission: str
    _: KW_ONLY
    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Part | None = None

    @property
    def doing(self) -> str:
        """The purpose, for error messages: "storing 'a/b'"."""
        return self.action if self.key is None else f"{self.action} {self.key!r}"


def parse_xml(body: bytes) -> ET.Element:
    """Parse the body of an answer; namespaces are removed from its elements.

    Raises:
        TransientStoreError: it is not XML: cut, or the page of a proxy.
    """
    try:
        root = ET.fromstring(body.strip())  # noqa: S314  expat reads no external entities
    except ET.ParseError as error:
        raise TransientStoreError(f"the server's answer is not the XML that S3 sends ({error})") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def text_of(element: ET.Element, name: str) -> str:
    """Return the text of a child element; empty when it is missing."""
    return element.findtext(name) or ""


METADATA = "x-amz-meta-"
CHECKSUM = "x-amz-checksum-crc64nvme"


def object_headers(metadata: Metadata | None, condition: Condition | None = None) -> dict[str, str]:
    """Return the headers for the user metadata of an object, and for a condition on the object that it replaces."""
    headers = {f"{METADATA}{name}": value for name, value in (metadata or {}).items()}
    match condition:
        case Absent():
            headers["If-None-Match"] = "*"
        case Replaces(etag):
            headers["If-Match"] = etag
    return headers


def metadata_in(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the user metadata in the headers of an answer."""
    return {name.removeprefix(METADATA): value for name, value in headers.items() if name.startswith(METADATA)}


def if_match(etag: str | None) -> dict[str, str]:
    """Return the header that requires content at the key; none for None."""
    return {} if etag is None else {"If-Match": etag}


def etag_in(root: ET.Element) -> str:
    """Return the ETag in an answer, with its quotes; empty when it is missing."""
    etag = text_of(root, "ETag")
    return f'"{etag}"' if etag and '"' not in etag else etag  # radosgw 16 leaves them out


def crc_of(text: str | None) -> int | None:
    """Return the checksum in the text of an answer; None when it is missing or malformed."""
    try:
        return from_base64(text or "")
    except ValueError:
        return None


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
