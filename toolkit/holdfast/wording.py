"""Telling: what befell many checkpoints takes a few words of the log, however many they are."""

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


def tell_reasons(
    reasons: Mapping[str, Exception], sentence: Callable[[str, Exception], str], tell: Callable[[str], None]
) -> None:
    """Tell of names what befell them: of each kind of error the first few, and how many more there are."""
    kinds: dict[type[Exception], list[str]] = {}
    for name, reason in reasons.items():
        kinds.setdefault(type(reason), []).append(sentence(name, reason))
    for sentences in kinds.values():
        tell_some(sentences, tell)


def tell_some(sentences: Sequence[str], tell: Callable[[str], None]) -> None:
    """Tell the first few of sentences of one kind, and how many more there are."""
    for sentence in sentences[:_NAMED]:
        tell(sentence)
    if len(sentences) > _NAMED:
        tell(f"… and {len(sentences) - _NAMED:,} more like these")
