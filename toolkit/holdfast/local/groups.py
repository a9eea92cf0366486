"""Units: which changed files become durable together in a flush, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from holdfast.local.scan import FileState
from holdfast.names import checkpoint_of

TOP_LEVEL = ""
"""The unit of all files at the top level."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What is committed together: a directory, or files at the top level that may belong to each other.

    Attributes:
        states: its changed files.
        size: bytes of them that have yet to travel.
    """

    states: tuple[FileState, ...]
    size: int

    @property
    def name(self) -> str:
        """The newest of its checkpoints, for the log."""
        return max(self.states, key=lambda state: state.mtime_ns).checkpoint

    @property
    def paths(self) -> set[str]:
        """The paths of its changed files."""
        return {state.path for state in self.states}


def unit_of(path: str) -> str:
    """Return what is committed together: a directory's name, or `TOP_LEVEL`.

    Files at the top level that are overwritten side by side (weights and their JSON) may belong to each other.
    """
    return checkpoint_of(path) if "/" in path else TOP_LEVEL


def units(states: Iterable[FileState], unsent: Callable[[FileState], int]) -> list[Unit]:
    """Return the units of changed files, in the order of the first file of each.

    Args:
        states: changed files, those of the newest checkpoint first.
        unsent: says how many bytes of a file have yet to travel.
    """
    return _grouped(states, unsent, lambda state: unit_of(state.path))


def split(unit: Unit, unsent: Callable[[FileState], int], overwritten: Collection[str]) -> list[Unit]:
    """Return the smaller units that one is made of, where there is no time for all of it.

    New files at the top level are checkpoints of their own, together with those that differ in the suffix only. What
    overwrites files of the last snapshot stays together, and so does a directory.

    Args:
        unit: which.
        unsent: as in `units`.
        overwritten: paths of which the last snapshot has an older version.
    """
    if any("/" in state.path for state in unit.states):
        return [unit]
    return _grouped(
        unit.states, unsent, lambda state: TOP_LEVEL if state.path in overwritten else state.path.partition(".")[0]
    )


def _grouped(
    states: Iterable[FileState], unsent: Callable[[FileState], int], key: Callable[[FileState], str]
) -> list[Unit]:
    groups: dict[str, list[FileState]] = {}
    for state in states:
        groups.setdefault(key(state), []).append(state)
    return [Unit(tuple(group), sum(map(unsent, group))) for group in groups.values()]
