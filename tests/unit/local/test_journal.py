"""A journal has every whole line that was written, whatever ended the process that wrote it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from holdfast.local.journal import Journal, JournalError


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / ".holdfast/notes.jsonl")


def read(journal: Journal) -> tuple[dict[str, Any], list[Any]] | None:
    return journal.read(lambda header, lines: (header, lines))


def test_what_was_written_is_read(journal: Journal) -> None:
    assert read(journal) is None
    journal.begin({"of": "this"}, [1], durable=True)
    journal.append([2, "two\n"])
    journal.append({"three": None}, durable=True)
    assert read(journal) == ({"of": "this"}, [1, [2, "two\n"], {"three": None}])


def test_a_line_that_was_cut_off_takes_no_other_with_it(journal: Journal) -> None:
    journal.begin({})
    journal.append("before")
    whole = journal.file.read_bytes()
    journal.file.write_bytes(whole + b'["cut of')
    assert read(journal) == ({}, ["before"])
    journal.append("glued to it")
    journal.append("after")
    assert read(journal) == ({}, ["before", "after"])


@pytest.mark.parametrize("content", [b"", b'{"format": 1}', b"\0\0\0\n", b"[]\n", b'{"format": 2}\n', b"{}\n"])
def test_a_journal_without_a_whole_header_cannot_be_read(journal: Journal, content: bytes) -> None:
    journal.begin({})
    journal.file.write_bytes(content)
    with pytest.raises(JournalError):
        read(journal)


def test_what_a_reader_does_not_find_is_an_error_of_the_journal(journal: Journal) -> None:
    journal.begin({})
    with pytest.raises(JournalError, match="name"):
        journal.read(lambda header, _: header["name"])


def test_a_new_beginning_replaces_it_whole_or_not_at_all(journal: Journal) -> None:
    journal.begin({"number": 1}, ["old"])
    with pytest.raises(TypeError):
        journal.begin({"number": 2}, ["new", object()])
    assert read(journal) == ({"number": 1}, ["old"])
    journal.begin({"number": 3})
    assert read(journal) == ({"number": 3}, [])


def test_lines_of_many_threads_do_not_mix(journal: Journal) -> None:
    journal.begin({})
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(journal.append, range(2000)))
    found = read(journal)
    assert found is not None
    assert sorted(found[1]) == [*range(2000)]


def test_the_folder_goes_with_the_last_journal_in_it(journal: Journal) -> None:
    journal.remove()
    other = Journal(journal.file.with_name("other.jsonl"))
    journal.begin({})
    other.begin({})
    journal.remove()
    assert read(other) == ({}, [])
    other.remove()
    assert not journal.file.parent.exists()
