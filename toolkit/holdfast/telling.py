"""Telling: what befell many checkpoints takes a few words of the log, however many they are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import islice

_NAMED = 5


def listed(names: Collection[str], show: Callable[[str], str] = repr) -> str:
    """Return names for a sentence: the first few, each as `show` says, and how many more there are."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(map(show, islice(names, _NAMED))) + more


def tell_some(sentences: Sequence[str], tell: Callable[[str], None]) -> None:
    """Tell the first few of sentences that differ in the name only, and how many more there are."""
    for sentence in sentences[:_NAMED]:
        tell(sentence)
    if len(sentences) > _NAMED:
        tell(f"… and the same of {len(sentences) - _NAMED:,} more")
