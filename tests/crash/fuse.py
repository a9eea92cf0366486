"""The fuse of one life: it counts what the life does to disk and store, and ends it at one of these operations."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

T = TypeVar("T")


class Crash(BaseException):
    """The process is dead. Raised inside an operation; what the unwinding then tries reaches neither disk nor store."""


class Moment(StrEnum):
    """When, seen from the operation."""

    BEFORE = "before"
    MIDDLE = "in the middle of"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that a life does to the world.

    Attributes:
        stage: what the life is at, such as `restore`.
        name: such as `put record` or `rename`.
        splittable: it has a middle.
    """

    stage: str
    name: str
    splittable: bool

    def __str__(self) -> str:
        return f"{self.stage}: {self.name}"

    @property
    def moments(self) -> tuple[Moment, ...]:
        return tuple(Moment) if self.splittable else (Moment.BEFORE, Moment.AFTER)


Decide = Callable[[int, Operation], Moment | None]
"""Gets the number of an operation and the operation; says when to strike, if at all."""


def at(wanted: int, moment: Moment) -> Decide:
    """Strike at one operation."""
    return lambda number, operation: moment if number == wanted else None


# Of a life's operations a few are claims and commits, and many are writes: those that matter are struck more often.
_ODDS = {
    "put claim": 0.05,
    "put record": 0.15,
    "put fence": 0.1,
    "put reported": 0.05,
    "copy to plain": 0.1,
    "copy to preserved": 0.1,
    "copy part": 0.2,
    "delete record": 0.1,
    "delete content": 0.05,
    "delete plain": 0.1,
    "delete preserved": 0.1,
    "abort upload": 0.2,
    "replace": 0.04,
    "put content": 0.05,
    "put plain": 0.03,
    "rename": 0.04,
    "link": 0.03,
    "write": 0.03,
    "send": 0.03,
    "begin upload": 0.1,
    "put part": 0.1,
    "complete upload": 0.2,
    "read content": 0.05,
    "read plain": 0.03,
}


def by_chance(dice: random.Random, hazard: float) -> Decide:
    """Strike with some probability at each operation; with the same dice at the same ones."""

    def decide(number: int, operation: Operation) -> Moment | None:
        strikes = dice.random() < hazard * _ODDS.get(operation.name, 0.012)
        if not strikes:
            return None
        # What is half done is worth more looks than what is not begun.
        return Moment.MIDDLE if operation.splittable and dice.random() < 0.6 else dice.choice(operation.moments)

    return decide


@dataclass(frozen=True, slots=True)
class Struck:
    """A strike: at the `number`th operation of a life."""

    number: int
    moment: Moment
    operation: Operation

    def __str__(self) -> str:
        return f"{self.moment} operation {self.number} ({self.operation})"


@dataclass(frozen=True, slots=True)
class Charge:
    """What happens once, and where.

    Attributes:
        decide: where.
        strike: what; when it returns, the life goes on.
    """

    decide: Decide
    strike: Callable[[Struck], None]


class Fuse:
    """Counts operations, and sets each of its charges off at most once.

    Args:
        charges: what is to happen.
    """

    def __init__(self, *charges: Charge) -> None:
        self.stage = ""
        self.operations: list[Operation] = []
        self.dead = False
        self._charges = [*charges]
        self._lock = threading.Lock()

    def add(self, charge: Charge) -> None:
        self._charges.append(charge)

    def crash(self, struck: Struck) -> None:
        """Strike: the life is over, in this process."""
        self.dead = True
        raise Crash(str(struck))

    def run(self, name: str, act: Callable[[], T], half: Callable[[], object] | None = None) -> T:
        """Do an operation, if the life still lives and may finish it.

        Args:
            name: as in Operation.
            act: does it.
            half: does a part of it; None: it is one step of the kernel's or the server's, or part of it leaves nothing.
        """
        with self._lock:
            if self.dead:
                raise Crash
            operation = Operation(self.stage, name, half is not None)
            number = len(self.operations)
            self.operations.append(operation)
            due = [
                (Struck(number, moment, operation), charge)
                for charge in self._charges
                if (moment := charge.decide(number, operation)) is not None
            ]
            self._charges = [charge for charge in self._charges if charge not in [fired for _, fired in due]]
        for struck, charge in due:
            if struck.moment is Moment.MIDDLE and half is not None:
                half()
            if struck.moment is not Moment.AFTER:
                charge.strike(struck)
        try:
            result = act()
        except Exception:
            self._strike_after(due)  # an error is an answer too
            raise
        self._strike_after(due)
        return result

    def _strike_after(self, due: Iterable[tuple[Struck, Charge]]) -> None:
        for struck, charge in due:
            if struck.moment is Moment.AFTER:
                charge.strike(struck)
