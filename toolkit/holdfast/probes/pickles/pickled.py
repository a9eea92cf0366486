"""Pickles: plain ones, joblib's with arrays between the operations, and the legacy format of torch.save.

A pickle ends with an operation of its own, and every value in it announces its length. Nothing is executed.
"""

from __future__ import annotations

from math import prod

from holdfast.probes.dtype import item_size
from holdfast.probes.pickles import inert
from holdfast.probes.pickles.inert import Name, Record
from holdfast.probes.pickles.opcodes import STEPS, operations
from holdfast.probes.verdict import CutError, Finding, UnclearError, sized
from holdfast.probes.view import Cursor, View, walk

PROTOCOLS = tuple(bytes((0x80, protocol)) for protocol in (2, 3, 4, 5))
# torch.serialization.MAGIC_NUMBER, as pickle writes it.
_TORCH = b"\x8a\x0a" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little") + b"."
_SOME = 16  # operations after which a file without a pickle's name is taken for one
_ARRAY = Name("joblib.numpy_pickle", "NumpyArrayWrapper")
# Bytes per element of the classes that torch.save names (torch/storage.py).
_STORAGES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8,
    "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
    "ComplexDoubleStorage": 16, "ComplexFloatStorage": 8, "QUInt8Storage": 1, "QInt8Storage": 1,
    "QInt32Storage": 4, "QUInt4x2Storage": 1, "QUInt2x4Storage": 1, "UntypedStorage": 1,
}  # fmt: skip


def check(view: View, start: int = 0, *, named: bool) -> Finding:
    """Probe one or several pickles.

    Args:
        start: of the first pickle, in bytes (default 0).
        named: whether more than the first two bytes shows that it is a pickle.
    """
    if view.at(start + 2, len(_TORCH)) == _TORCH:
        return walk("torch file", Cursor(view, start), _skip_torch)
    cursor, seen = Cursor(view, start), 0
    try:
        while cursor.position == start or view.at(cursor.position, 2) in PROTOCOLS:
            for _, argument in operations(cursor, STEPS - seen):
                seen += 1
                # In the operation that names it, or in the string from which a later operation makes the name.
                if argument in ((b"joblib.numpy_pickle", b"NumpyArrayWrapper"), b"NumpyArrayWrapper"):
                    return walk("joblib file", Cursor(view, start), _skip_joblib)
    except CutError as error:
        if not named and seen < _SOME:
            raise UnclearError("something that begins like a pickle") from error
        raise CutError(f"pickle without its last operation: {error}") from None
    return sized("pickle", has=view.size, needs=cursor.position)


def _skip_joblib(cursor: Cursor) -> None:
    inert.load(cursor, when_built=lambda record: _skip_array(cursor, record))


def _skip_array(cursor: Cursor, wrapper: Record) -> None:
    """Move behind an array that joblib wrote between the operations (joblib/numpy_pickle.py, `write_array`)."""
    if wrapper.made_by != _ARRAY:
        return
    shape, size = wrapper.get("shape"), _item_size(wrapper.get("dtype"))
    if size is None:
        inert.load(cursor)
        return
    if not isinstance(shape, tuple) or not all(isinstance(length, int) for length in shape):
        raise UnclearError("joblib file with an array without a shape")
    if wrapper.get("numpy_array_alignment_bytes") is not None:
        cursor.skip(cursor.take(1)[0])
    cursor.skip(max(0, prod(shape)) * size)


def _item_size(dtype: object) -> int | None:
    """Return the bytes of an element of a pickled `numpy.dtype`; None where elements are Python objects."""
    if not isinstance(dtype, Record) or not isinstance(dtype.arguments, tuple) or not dtype.arguments:
        raise UnclearError("joblib file with an array of a type that is not known")
    state = dtype.state
    if isinstance(state, tuple) and len(state) > 5 and isinstance(state[5], int) and state[5] >= 0:
        # Types of any length, and records: their size is in the state, and a flag for records that hold objects.
        holds_objects = len(state) > 7 and isinstance(state[7], int) and state[7] & 1
        return None if holds_objects else state[5]
    return item_size(dtype.arguments[0])


def _skip_torch(cursor: Cursor) -> None:
    while cursor.view.at(cursor.position + 2, len(_TORCH)) == _TORCH:
        _skip_torch_object(cursor)


def _skip_torch_object(cursor: Cursor) -> None:
    """Move behind the result of a legacy torch.save: five pickles, then the storages that they name."""
    sizes: dict[str, int] = {}

    def note(reference: object) -> None:
        if isinstance(reference, tuple) and len(reference) >= 5 and reference[0] == "storage":
            kind, key = reference[1:3]
            if not isinstance(kind, Name) or kind.name not in _STORAGES:
                raise UnclearError("torch file with a storage type that is not known")
            sizes[str(key)] = _STORAGES[kind.name]

    for _ in range(3):
        inert.load(cursor)
    inert.load(cursor, when_referred=note)
    keys = inert.load(cursor)
    if not isinstance(keys, list):
        raise UnclearError("torch file without a list of storages")
    for key in keys:
        if key not in sizes:
            raise UnclearError("torch file with a storage that is not named before")
        cursor.skip(cursor.number("<Q") * sizes[key])
