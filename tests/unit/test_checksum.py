"""CRC64NVME, against the value that its definition gives and against itself in pieces."""

import pytest

from holdfast import checksum


def test_the_check_value_of_the_definition() -> None:
    # The catalogue of parametrised CRC algorithms states this for CRC-64/NVME.
    assert checksum.crc64nvme(b"123456789") == 0xAE8B14860A799888


def test_pieces_make_the_whole_either_way() -> None:
    whole = bytes(range(256)) * 9
    first, second = whole[:700], memoryview(bytearray(whole[700:]))
    assert checksum.crc64nvme(second, checksum.crc64nvme(first)) == checksum.crc64nvme(whole)
    parts = checksum.crc64nvme(first), checksum.crc64nvme(second)
    assert checksum.combine(*parts, len(second)) == checksum.crc64nvme(whole)
    assert checksum.combine(0, parts[0], len(first)) == parts[0]
    assert checksum.combine(parts[0], 0, 0) == parts[0]


@pytest.mark.parametrize("crc", [0, 1, 0xAE8B14860A799888, 2**64 - 1])
def test_both_written_forms_are_read_back(crc: int) -> None:
    assert checksum.from_hex(checksum.to_hex(crc)) == crc
    assert checksum.from_base64(checksum.to_base64(crc)) == crc
    assert len(checksum.to_hex(crc)) == 16
    assert len(checksum.to_base64(crc)) == 12


@pytest.mark.parametrize(
    "text", ["", "0", "AE8B14860A799888", "0x8b14860a799888", "ae8b14860a79988g", " e8b14860a799888"]
)
def test_other_hex_forms_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="CRC64NVME"):
        checksum.from_hex(text)


@pytest.mark.parametrize("text", ["", "AAAA", "not base64!", "AAAAAAAAAAA"])
def test_other_base64_forms_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="CRC64NVME"):
        checksum.from_base64(text)
