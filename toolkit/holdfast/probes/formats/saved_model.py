"""TensorFlow's `saved_model.pb`: one protobuf message, of which each large field announces its length.

Format: protobuf.dev/programming-guides/encoding; tensorflow/core/protobuf/saved_model.proto.
"""

from __future__ import annotations

from holdfast.probes.verdict import CutError, Finding, UnclearError, sized
from holdfast.probes.view import Cursor, View

NAME = "saved_model.pb"
_FIELDS = 10_000
_VERSION, _GRAPHS = 1, 2


def check(view: View) -> Finding:
    """Judge a file of that name.

    Raises:
        CutError: it ends within a field.
        UnclearError: it is no such message.
    """
    cursor = Cursor(view, window=64)
    try:
        for _ in range(_FIELDS):
            if not cursor.left:
                return sized("saved_model.pb", has=view.size, needs=cursor.position)
            tag = _varint(cursor)
            if tag == _VERSION << 3:
                _varint(cursor)
            elif tag == (_GRAPHS << 3 | 2):
                cursor.skip(_varint(cursor))
            else:
                raise UnclearError("saved_model.pb with a field that is not known")
    except CutError as error:
        raise CutError(f"saved_model.pb that {error}") from None
    raise UnclearError("saved_model.pb of more fields than may be looked at")


def _varint(cursor: Cursor) -> int:
    """Return the next number, seven bits a byte."""
    value = 0
    for shift in range(0, 70, 7):
        byte = cursor.take(1)[0]
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value
    raise UnclearError("saved_model.pb with a number that does not end")
