"""The pages of this repository, cut into what a test can try: fenced blocks and the command lines in them."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for folder in (".", "docs", "docs/decisions", "images", "benchmarks/results")
    for page in ROOT.glob(f"{folder}/*.md")
)
_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_SETTING = re.compile(r"^\w+=")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        page: relative to the repository.
        line: of the opening fence.
        language: the first word after it: `sh`, `json`, …
        about: the second word: what the block is for, such as `batch.RegisterJobDefinition`.
        text: what is between the fences.
    """

    page: str
    line: int
    language: str
    about: str
    text: str

    @property
    def name(self) -> str:
        """For pytest, which shows brackets of its own."""
        return f"{self.page}:{self.line}"


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A simple command in a block of shell, with the variables that are set before it taken away."""

    block: Block
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """For pytest."""
        return f"{self.block.name} {' '.join(self.words[:3])}"


def blocks(*languages: str) -> list[Block]:
    """Return the blocks in these languages, of every page; without any, all blocks."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in _FENCE.finditer(text):
            language, _, about = match["info"].partition(" ")
            line = text.count("\n", 0, match.start()) + 1
            content = textwrap.dedent(match["text"])
            found.append(Block(str(page.relative_to(ROOT)), line, language, about.strip(), content))
    return [block for block in found if not languages or block.language in languages]


def the_block(about: str) -> Block:
    """Return the one block that says it is about this."""
    (found,) = (block for block in blocks() if block.about == about)
    return found


def command_lines(program: str) -> list[CommandLine]:
    """Return every command line of a program in the blocks of shell."""
    found = [line for block in blocks("sh") for line in _commands(block)]
    return [line for line in found if line.words[0] == program]


def _commands(block: Block) -> Iterator[CommandLine]:
    lexer = shlex.shlex(block.text.replace("\\\n", " ").replace("\n", "\n;"), posix=True, punctuation_chars=";()<>|&`")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word and not set(word) <= set(";()<>|&`"):
            words.append(word)
            continue
        while words and (_SETTING.match(words[0]) or words[0] in ("do", "then", "!")):
            del words[0]
        if words:
            yield CommandLine(block, tuple(words))
        words = []


def each(items: list[Block] | list[CommandLine]) -> pytest.MarkDecorator:
    """Run a test for each of them: there is at least one, or the test would say nothing."""
    assert items
    return pytest.mark.parametrize("item", items, ids=lambda item: item.name)
