"""Read a pickle as plain data: the names and arguments of its objects. Nothing is imported or called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from holdfast.probes.pickles.opcodes import Argument, operations
from holdfast.probes.verdict import UnclearError
from holdfast.probes.view import Cursor

_KEPT = 1 << 26  # bytes of strings, all together


@dataclass(frozen=True, slots=True)
class Name:
    """A class or a function that a pickle names."""

    module: str
    name: str


@dataclass(eq=False, slots=True)
class Pairs:
    """A dictionary with keys of any type."""

    pairs: list[tuple[object, object]] = field(default_factory=list)

    def get(self, key: str) -> object:
        """Return the value of a key that is a string, or None."""
        return next((value for found, value in reversed(self.pairs) if found == key), None)


@dataclass(eq=False, slots=True)
class Record:
    """An object that `pickle` would make with a call of `made_by`, and give its state afterwards."""

    made_by: object
    arguments: object
    state: object = None

    def get(self, attribute: str) -> object:
        """Return an attribute from the state, or None."""
        return self.state.get(attribute) if isinstance(self.state, Pairs) else None


def load(
    cursor: Cursor,
    *,
    when_built: Callable[[Record], object] = lambda _: None,
    when_referred: Callable[[object], object] = lambda _: None,
) -> object:
    """Read one pickle; the cursor is behind it afterwards.

    Args:
        when_built: receives each object that was given a state; may move the cursor.
        when_referred: receives the key of each object that is kept outside of the pickle.
    """
    machine = _Machine(when_built, when_referred)
    try:
        for name, argument in operations(cursor):
            _DO.get(name, _Machine.push)(machine, argument)
        return machine.pop()
    except (IndexError, TypeError, KeyError, ValueError):
        raise UnclearError("no pickle: its operations do not fit each other") from None


class _Machine:
    """The stack machine of `pickle`, with records in place of objects."""

    def __init__(self, when_built: Callable[[Record], object], when_referred: Callable[[object], object]) -> None:
        self.stack: list[object] = []
        self._marks: list[list[object]] = []
        self._memo: dict[object, object] = {}
        self._kept = 0
        self._when_built = when_built
        self._when_referred = when_referred

    def push(self, value: object) -> None:
        """Push a value; text of the pickle is text here too."""
        if isinstance(value, bytes):
            self._kept += len(value)
            if self._kept > _KEPT:
                raise UnclearError("a pickle with more strings than are read")
            value = value.decode("utf-8", "replace")
        self.stack.append(value)

    def pop(self) -> object:
        """Remove and return the topmost value; from an empty stack, all values since the last mark."""
        return self.stack.pop() if self.stack or not self._marks else self.marked()

    def mark(self) -> None:
        self._marks.append(self.stack)
        self.stack = []

    def marked(self) -> list[object]:
        """Remove and return the values that were pushed since the last mark."""
        values, self.stack = self.stack, self._marks.pop()
        return values

    def memoize(self, argument: Argument) -> None:
        self._memo[len(self._memo) if argument is None else _number(argument)] = self.stack[-1]

    def recall(self, argument: Argument) -> None:
        self.stack.append(self._memo[_number(argument)])

    def pop_all(self, count: int) -> list[object]:
        """Remove and return the topmost values, in the order in which they were pushed."""
        return [self.pop() for _ in range(count)][::-1]

    def extend(self, values: list[object]) -> None:
        # What is appended to a record has no meaning here.
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)

    def update(self, values: list[object]) -> None:
        if isinstance(self.stack[-1], Pairs):
            self.stack[-1].pairs.extend(_pairs(values))

    def push_name(self, argument: Argument) -> None:
        """Push a name from the operation itself, or from the stack."""
        if isinstance(argument, tuple):
            module, name = (part.decode("utf-8", "replace") for part in argument)
        else:
            name, module = str(self.pop()), str(self.pop())
        self.stack.append(Name(module, name))

    def make(self, _keywords: object = None) -> None:
        arguments = self.pop()
        self.stack.append(Record(self.pop(), arguments))

    def make_of_marked(self, argument: Argument) -> None:
        """Make a record of a class and of the values since the mark."""
        values = self.marked()
        if isinstance(argument, tuple):
            self.push_name(argument)
            values.insert(0, self.pop())
        self.stack.append(Record(values[0], tuple(values[1:])))

    def build(self) -> None:
        """Give the topmost object its state."""
        state = self.pop()
        built = self.stack[-1]
        if isinstance(built, Record):
            built.state = state
            self._when_built(built)

    def refer(self, argument: Argument) -> None:
        self.stack.append(self.pop() if argument is None else argument)
        self._when_referred(self.stack[-1])


def _number(argument: Argument) -> object:
    return int(argument) if isinstance(argument, bytes) else argument


def _pairs(values: list[object]) -> list[tuple[object, object]]:
    return list(zip(values[::2], values[1::2], strict=True))


_DO: dict[str, Callable[[_Machine, Argument], object]] = {
    "PROTO": lambda _, __: None, "FRAME": lambda _, __: None, "READONLY_BUFFER": lambda _, __: None,
    "STOP": lambda _, __: None,
    "NEWTRUE": lambda machine, _: machine.push(value=True), "NEWFALSE": lambda machine, _: machine.push(value=False),
    "EMPTY_LIST": lambda machine, _: machine.push([]), "EMPTY_SET": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push(Pairs()), "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.pop_all(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.pop_all(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.pop_all(3))),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.marked())),
    "LIST": lambda machine, _: machine.push(machine.marked()),
    "FROZENSET": lambda machine, _: machine.push(machine.marked()),
    "DICT": lambda machine, _: machine.push(Pairs(_pairs(machine.marked()))),
    "MARK": lambda machine, _: machine.mark(), "POP": lambda machine, _: machine.pop(),
    "POP_MARK": lambda machine, _: machine.marked(), "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    "APPEND": lambda machine, _: machine.extend([machine.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.marked()),
    "ADDITEMS": lambda machine, _: machine.extend(machine.marked()),
    "SETITEM": lambda machine, _: machine.update(machine.pop_all(2)),
    "SETITEMS": lambda machine, _: machine.update(machine.marked()),
    "GET": _Machine.recall, "BINGET": _Machine.recall, "LONG_BINGET": _Machine.recall,
    "PUT": _Machine.memoize, "BINPUT": _Machine.memoize, "LONG_BINPUT": _Machine.memoize,
    "MEMOIZE": _Machine.memoize, "GLOBAL": _Machine.push_name, "STACK_GLOBAL": _Machine.push_name,
    "REDUCE": lambda machine, _: machine.make(), "NEWOBJ": lambda machine, _: machine.make(),
    "NEWOBJ_EX": lambda machine, _: machine.make(machine.pop()),
    "INST": _Machine.make_of_marked, "OBJ": _Machine.make_of_marked, "BUILD": lambda machine, _: machine.build(),
    "PERSID": _Machine.refer, "BINPERSID": _Machine.refer,
}  # fmt: skip
