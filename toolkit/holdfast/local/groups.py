"""Group changed files by what is committed together in a flush, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from holdfast.local.scan import FileState
from holdfast.names import checkpoint_of

TOP_LEVEL = ""
"""The group of all files at the top level."""


@dataclass(frozen=True, slots=True)
class Group:
    """Changed files of one directory, or at the top level, that may belong together. `size` of them is unsent."""

    states: tuple[FileState, ...]
    size: int

    @property
    def name(self) -> str:
        """The newest of its checkpoints, for the log."""
        return max(self.states, key=lambda state: state.mtime_ns).checkpoint

    @property
    def paths(self) -> set[str]:
        """The paths of its files."""
        return {state.path for state in self.states}


def group_of(path: str) -> str:
    """Return the name of a file's group: its top-level directory, or `TOP_LEVEL`.

    Files at the top level that are overwritten side by side (weights and their JSON) may belong to each other.
    """
    return checkpoint_of(path) if "/" in path else TOP_LEVEL


def grouped(
    states: Iterable[FileState], to_send: Callable[[FileState], int], key: Callable[[str], str] = group_of
) -> list[Group]:
    """Return the groups of changed files, in the order of the first file of each.

    `to_send` returns the bytes of a file that are still to be sent, and `key` the name of a path's group.
    """
    groups: dict[str, list[FileState]] = {}
    for state in states:
        groups.setdefault(key(state.path), []).append(state)
    return [Group(tuple(members), sum(map(to_send, members))) for members in groups.values()]


def divided(group: Group, to_send: Callable[[FileState], int], overwritten: Collection[str]) -> list[Group]:
    """Return the smallest groups of a group's files that may be committed apart.

    New files at the top level are checkpoints of their own, together with those that differ in the suffix only. Files
    in `overwritten`, of which the last snapshot has an older version, stay together, and so does a directory.
    """
    if any("/" in state.path for state in group.states):
        return [group]
    return grouped(group.states, to_send, lambda path: TOP_LEVEL if path in overwritten else path.partition(".")[0])
