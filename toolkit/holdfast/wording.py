"""Shorten long lists of names and errors for log messages."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice

_NAMED = 5


def listed(names: Collection[str], show: Callable[[str], str] = repr) -> str:
    """Return names for a sentence: the first few, each as `show` says, and how many more there are."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(map(show, islice(names, _NAMED))) + more


def counted(number: int, thing: str) -> str:
    """Return how many there are of a thing: 1 file, 2,000 files."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def by_kind(reasons: Mapping[str, Exception], sentence: Callable[[str, Exception], str]) -> list[str]:
    """Return a sentence for each name and its error: of each kind of error the first few, and how many more."""
    kinds: dict[type[Exception], list[str]] = {}
    for name, reason in reasons.items():
        kinds.setdefault(type(reason), []).append(sentence(name, reason))
    return [shown for sentences in kinds.values() for shown in first_few(sentences)]


def first_few(sentences: Sequence[str]) -> list[str]:
    """Return the first few of sentences of one kind, and one that says how many more there are."""
    more = len(sentences) - _NAMED
    return [*sentences[:_NAMED], *([f"… and {more:,} more like these"] if more > 0 else [])]
