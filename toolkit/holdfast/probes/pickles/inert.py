"""Reading a pickle as plain data: how its objects are named and made, without importing or calling anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from holdfast.probes.pickles.opcodes import Argument, operations
from holdfast.probes.verdict import UnclearError
from holdfast.probes.view import Cursor

_STEPS = 5_000_000
_KEPT = 1 << 26  # bytes of strings, all together


@dataclass(frozen=True, slots=True)
class Name:
    """What a pickle refers to by name: a class or a function."""

    module: str
    name: str


@dataclass(eq=False, slots=True)
class Pairs:
    """A dictionary; its keys may be anything."""

    pairs: list[tuple[object, object]] = field(default_factory=list)

    def get(self, key: str) -> object:
        """Return the value of a key that is a string, or None."""
        return next((value for found, value in reversed(self.pairs) if found == key), None)


@dataclass(eq=False, slots=True)
class Record:
    """An object that a pickle would make by calling something.

    Attributes:
        made_by: what would be called, mostly a `Name`.
        arguments: with what.
        state: what the object would be given afterwards.
    """

    made_by: object
    arguments: object
    state: object = None

    def get(self, attribute: str) -> object:
        """Return an attribute from the state, or None."""
        return self.state.get(attribute) if isinstance(self.state, Pairs) else None


@dataclass(frozen=True, slots=True)
class Reference:
    """An object that is kept outside of the pickle.

    Attributes:
        key: how the pickle refers to it.
    """

    key: object


def load(
    cursor: Cursor,
    *,
    when_built: Callable[[Record], object] = lambda record: record,
    when_referred: Callable[[Reference], object] = lambda reference: reference,
) -> object:
    """Read one pickle; the cursor is behind it afterwards.

    Args:
        cursor: at the beginning of the pickle.
        when_built: gets each object that was given a state, and returns what stands for it; may move the cursor.
        when_referred: gets each reference, and returns what stands for it.

    Raises:
        CutError: the file ends before the pickle.
        UnclearError: it is no pickle, or a larger one than is read.
    """
    machine = _Machine(when_built, when_referred)
    try:
        for name, argument in operations(cursor, _STEPS):
            _DO.get(name, _Machine.push)(machine, argument)
        return machine.pop()
    except (IndexError, TypeError, KeyError, ValueError):
        raise UnclearError("no pickle: its operations do not fit each other") from None


class _Machine:
    """The stack machine of `pickle`, with records in place of objects."""

    def __init__(self, when_built: Callable[[Record], object], when_referred: Callable[[Reference], object]) -> None:
        self._stack: list[object] = []
        self._marks: list[list[object]] = []
        self._memo: dict[object, object] = {}
        self._kept = 0
        self._when_built = when_built
        self._when_referred = when_referred

    def ignore(self, argument: Argument) -> None:
        """Do nothing."""

    def push(self, argument: object) -> None:
        """Push a value; what the pickle has as text is text here too."""
        if isinstance(argument, bytes):
            self._kept += len(argument)
            if self._kept > _KEPT:
                raise UnclearError("a pickle with more strings than are read")
            argument = argument.decode("utf-8", "replace")
        self._stack.append(argument)

    def pop(self, argument: Argument = None) -> object:
        """Take the topmost value off; of an empty stack, the last mark."""
        if not self._stack and self._marks:
            return self.marked()
        return self._stack.pop()

    def mark(self, argument: Argument) -> None:
        """Begin a new stack above this one."""
        self._marks.append(self._stack)
        self._stack = []

    def marked(self, argument: Argument = None) -> list[object]:
        """Take off what was pushed since the last mark."""
        values, self._stack = self._stack, self._marks.pop()
        return values

    def duplicate(self, argument: Argument) -> None:
        """Push the topmost value again."""
        self._stack.append(self._stack[-1])

    def memoize(self, argument: Argument) -> None:
        """Remember the topmost value, under the next number or under the one given."""
        key = len(self._memo) if argument is None else int(argument) if isinstance(argument, bytes) else argument
        self._memo[key] = self._stack[-1]

    def recall(self, argument: Argument) -> None:
        """Push what was remembered under a number."""
        self._stack.append(self._memo[int(argument) if isinstance(argument, bytes) else argument])

    def tuple_of(self, count: int) -> None:
        """Make a tuple of the topmost values."""
        values = [self.pop() for _ in range(count)]
        self._stack.append(tuple(reversed(values)))

    def marked_tuple(self, argument: Argument) -> None:
        """Make a tuple of what was pushed since the mark."""
        values = self.marked()
        self._stack.append(tuple(values))

    def marked_list(self, argument: Argument) -> None:
        """Make a list of what was pushed since the mark."""
        values = self.marked()
        self._stack.append(values)

    def marked_pairs(self, argument: Argument) -> None:
        """Make a dictionary of what was pushed since the mark."""
        values = self.marked()
        self._stack.append(Pairs(list(zip(values[::2], values[1::2], strict=True))))

    def append(self, argument: Argument) -> None:
        """Append the topmost value to the one below."""
        self._extend([self.pop()])

    def append_marked(self, argument: Argument) -> None:
        """Append what was pushed since the mark to the value below."""
        self._extend(self.marked())

    def _extend(self, values: list[object]) -> None:
        # Records are not asked what was appended to them.
        if isinstance(self._stack[-1], list):
            self._stack[-1].extend(values)

    def set_item(self, argument: Argument) -> None:
        """Put the topmost key and value into the dictionary below."""
        value, key = self.pop(), self.pop()
        self._update([key, value])

    def set_marked(self, argument: Argument) -> None:
        """Put keys and values since the mark into the dictionary below."""
        self._update(self.marked())

    def _update(self, values: list[object]) -> None:
        if isinstance(self._stack[-1], Pairs):
            self._stack[-1].pairs.extend(zip(values[::2], values[1::2], strict=True))

    def name(self, argument: Argument) -> None:
        """Push a name that stands in the operation itself, or on the stack."""
        if isinstance(argument, tuple):
            module, name = (part.decode("utf-8", "replace") for part in argument)
        else:
            name, module = str(self.pop()), str(self.pop())
        self._stack.append(Name(module, name))

    def make(self, argument: Argument) -> None:
        """Make a record of a callable and its arguments."""
        arguments = self.pop()
        self._stack.append(Record(self.pop(), arguments))

    def make_with_keywords(self, argument: Argument) -> None:
        """Make a record of a class, its arguments and its keyword arguments."""
        self.pop()
        self.make(argument)

    def make_of_marked(self, argument: Argument) -> None:
        """Make a record of a class and of what was pushed since the mark."""
        values = self.marked()
        if isinstance(argument, tuple):
            self.name(argument)
            self._stack.append(Record(self.pop(), tuple(values)))
        else:
            self._stack.append(Record(values[0], tuple(values[1:])))

    def build(self, argument: Argument) -> None:
        """Give the topmost object its state."""
        state = self.pop()
        built = self._stack[-1]
        if isinstance(built, Record):
            built.state = state
            self._stack[-1] = self._when_built(built)

    def refer(self, argument: Argument) -> None:
        """Push what a reference stands for."""
        key = self.pop() if argument is None else argument
        self._stack.append(self._when_referred(Reference(key)))


_DO: dict[str, Callable[[_Machine, Argument], object]] = {
    "PROTO": _Machine.ignore, "FRAME": _Machine.ignore, "READONLY_BUFFER": _Machine.ignore, "STOP": _Machine.ignore,
    "NEWTRUE": lambda machine, _: machine.push(argument=True),
    "NEWFALSE": lambda machine, _: machine.push(argument=False),
    "EMPTY_LIST": lambda machine, _: machine.push([]), "EMPTY_SET": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push(Pairs()), "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE1": lambda machine, _: machine.tuple_of(1), "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3), "TUPLE": _Machine.marked_tuple,
    "LIST": _Machine.marked_list, "FROZENSET": _Machine.marked_list, "DICT": _Machine.marked_pairs,
    "MARK": _Machine.mark, "POP": _Machine.pop, "POP_MARK": _Machine.marked, "DUP": _Machine.duplicate,
    "APPEND": _Machine.append, "APPENDS": _Machine.append_marked, "ADDITEMS": _Machine.append_marked,
    "SETITEM": _Machine.set_item, "SETITEMS": _Machine.set_marked,
    "GET": _Machine.recall, "BINGET": _Machine.recall, "LONG_BINGET": _Machine.recall,
    "PUT": _Machine.memoize, "BINPUT": _Machine.memoize, "LONG_BINPUT": _Machine.memoize,
    "MEMOIZE": _Machine.memoize, "GLOBAL": _Machine.name, "STACK_GLOBAL": _Machine.name,
    "REDUCE": _Machine.make, "NEWOBJ": _Machine.make, "NEWOBJ_EX": _Machine.make_with_keywords,
    "INST": _Machine.make_of_marked, "OBJ": _Machine.make_of_marked, "BUILD": _Machine.build,
    "PERSID": _Machine.refer, "BINPERSID": _Machine.refer,
}  # fmt: skip
