"""PostgreSQL's fields as columns of Parquet and back, bit for bit.

A column has the Parquet type that people expect, as long as it carries every bit. Two types of PostgreSQL hold
more than theirs in Parquet: a ``timestamptz`` may be infinite or later than 64 bits of microseconds since 1970
reach, and a ``real[]`` may have several dimensions or begin at another index than 1. Those have a second column,
``NAME__sent``, which is NULL but for such values, and then holds what PostgreSQL sends. A type that is not listed
in ``_FORMS`` is held as what PostgreSQL sends, in bytes.

Source: the Parquet format's LogicalTypes.md; for the fields see ``categories.wire``.
"""

from __future__ import annotations

import array
import struct
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from hal9mig.categories import wire
from hal9mig.categories.declaration import Column

#: What follows the name of a column that holds what its own cannot.
SENT = "__sent"
_LENGTH = struct.Struct("!i")
_BIGINT = struct.Struct("!iq")
_INTEGER = struct.Struct("!ii")
_JSONB = b"\x01"
#: Microseconds from 1970, where Parquet's time begins, to 2000, where PostgreSQL's does.
_SINCE_1970 = 946_684_800_000_000
_INFINITE = (2**63 - 1, -(2**63))
_REAL = 700  # the number of the element type in pg_type
#: Dimensions, whether there are NULLs, element type, and of the one dimension its length and first index.
_ONE_DIMENSION = struct.Struct("!iiiii")
_NO_DIMENSION = struct.pack("!iii", 0, 0, _REAL)
_SWAPPED = sys.byteorder == "little"

Fields = Sequence[bytes]
_Values = list[Any]


class FiledColumn:
    """A column of a file that stands for a column of a table; this one holds what PostgreSQL sends, in bytes."""

    type: pa.DataType = pa.binary()
    #: Whether a second column takes what this one cannot hold.
    doubled = False

    def __init__(self, column: Column):
        self.name = column.name

    def schema(self) -> list[pa.Field]:
        """Return the columns as a file declares them."""
        declared = [pa.field(self.name, self.type)]
        return [*declared, pa.field(self.name + SENT, pa.binary())] if self.doubled else declared

    def arrays(self, fields: Fields) -> list[pa.Array]:
        """Return the columns that hold these fields."""
        return [pa.array([None if field == wire.NULL else field[4:] for field in fields], self.type)]

    def fields(self, arrays: Sequence[pa.Array]) -> list[bytes]:
        """Return the fields that these columns hold."""
        return _written(arrays[0].to_pylist())


class _Text(FiledColumn):
    type = pa.string()

    def fields(self, arrays: Sequence[pa.Array]) -> list[bytes]:
        return _written(arrays[0].cast(pa.binary()).to_pylist())


class _Uuid(FiledColumn):
    type = pa.uuid()

    def arrays(self, fields: Fields) -> list[pa.Array]:
        values = [None if field == wire.NULL else field[4:] for field in fields]
        return [pa.ExtensionArray.from_storage(self.type, pa.array(values, pa.binary(16)))]

    def fields(self, arrays: Sequence[pa.Array]) -> list[bytes]:
        return _written(arrays[0].storage.to_pylist())


class _Json(FiledColumn):
    """The text as PostgreSQL prints it: its numbers keep every digit."""

    type = pa.json_()

    def arrays(self, fields: Fields) -> list[pa.Array]:
        values = [None if field == wire.NULL else field[5:] for field in fields]
        return [pa.ExtensionArray.from_storage(self.type, pa.array(values, pa.string()))]

    def fields(self, arrays: Sequence[pa.Array]) -> list[bytes]:
        texts = arrays[0].storage.cast(pa.binary()).to_pylist()
        return _written([None if text is None else _JSONB + text for text in texts])


class _Whole(FiledColumn):
    """A whole number; ``form`` is that of its field."""

    form = _BIGINT

    def arrays(self, fields: Fields) -> list[pa.Array]:
        values = [None if field == wire.NULL else int.from_bytes(field[4:], signed=True) for field in fields]
        return [pa.array(values, self.type)]

    def fields(self, arrays: Sequence[pa.Array]) -> list[bytes]:
        size, pack = self.form.size - 4, self.form.pack
        return [wire.NULL if value is None else pack(size, value) for value in arrays[0].to_pylist()]


class _Bigint(_Whole):
    type = pa.int64()


class _Integer(_Whole):
    type = pa.int32()
    form = _INTEGER


class _Time(FiledColumn):
    type = pa.timestamp("us", tz="UTC")
    doubled = True

    def arrays(self, fields: Fields) -> list[pa.Array]:
        held: _Values = [None] * len(fields)
        sent: _Values = [None] * len(fields)
        for at, field in enumerate(fields):
            if field == wire.NULL:
                continue
            micros = int.from_bytes(field[4:], signed=True)
            if micros in _INFINITE or micros + _SINCE_1970 > _INFINITE[0]:
                sent[at] = field[4:]
            else:
                held[at] = micros + _SINCE_1970
        return [pa.array(held, pa.int64()).view(self.type), pa.array(sent, pa.binary())]

    def fields(self, arrays: Sequence[pa.Array]) -> list[bytes]:
        found = [
            wire.NULL if value is None else _BIGINT.pack(8, value - _SINCE_1970)
            for value in arrays[0].view(pa.int64()).to_pylist()
        ]
        return _with_sent(found, arrays[1])


class _Reals(FiledColumn):
    type = pa.list_(pa.float32())
    doubled = True

    def arrays(self, fields: Fields) -> list[pa.Array]:
        starts: list[int | None] = []
        values, present = array.array("I"), bytearray()
        sent: _Values = []
        for field in fields:
            items = None if field == wire.NULL else _items(field[4:])
            sent.append(field[4:] if items is None and field != wire.NULL else None)
            starts.append(None if items is None else len(values))
            if items is not None:
                values.frombytes(items[0])
                present += items[1]
        if _SWAPPED:
            values.byteswap()
        mask = None if 0 not in present else pa.array(list(map(bool, present)), pa.bool_()).buffers()[1]
        child = pa.Array.from_buffers(pa.float32(), len(values), [mask, pa.py_buffer(values.tobytes())])
        listed = pa.ListArray.from_arrays(pa.array([*starts, len(values)], pa.int32()), child, type=self.type)
        return [listed, pa.array(sent, pa.binary())]

    def fields(self, arrays: Sequence[pa.Array]) -> list[bytes]:
        listed = arrays[0]
        child, bounds = listed.values, listed.offsets.to_pylist()
        body, known = _interleaved(child), listed.is_valid().to_pylist()
        present = child.is_valid().to_pylist() if child.null_count else None
        found: list[bytes] = []
        for at, valid in enumerate(known):
            low, high = bounds[at], bounds[at + 1]
            if not valid:
                found.append(wire.NULL)
            elif low == high:
                found.append(wire.field(_NO_DIMENSION))
            elif present is None or all(present[low:high]):
                head = _ONE_DIMENSION.pack(1, 0, _REAL, high - low, 1)
                found.append(wire.field(head + body[8 * low : 8 * high]))
            else:
                items = (body[8 * place : 8 * place + 8] if present[place] else wire.NULL for place in range(low, high))
                found.append(wire.field(_ONE_DIMENSION.pack(1, 1, _REAL, high - low, 1) + b"".join(items)))
        return _with_sent(found, arrays[1])


def _items(data: bytes) -> tuple[bytes, bytes] | None:
    """Return the elements of an array as they are sent, and for each whether it is there; None for no plain list."""
    if data == _NO_DIMENSION:
        return b"", b""
    if len(data) < _ONE_DIMENSION.size:
        return None
    dimensions, nulls, kind, count, first = _ONE_DIMENSION.unpack_from(data)
    if (dimensions, kind, first) != (1, _REAL, 1):
        return None
    if not nulls:
        # A length and four bytes each.
        return memoryview(data)[_ONE_DIMENSION.size :].cast("I")[1::2].tobytes(), b"\1" * count
    parts, present, at = [], bytearray(), _ONE_DIMENSION.size
    for _ in range(count):
        there = data[at : at + 4] != wire.NULL
        parts.append(data[at + 4 : at + 8] if there else b"\0\0\0\0")
        present.append(there)
        at += 8 if there else 4
    # One that has lost its last NULL still says that it has some.
    return None if all(present) else (b"".join(parts), bytes(present))


def _interleaved(child: pa.Array) -> bytes:
    """Return the elements as they are sent, each after its length."""
    count = len(child)
    if not count:
        return b""
    bits = memoryview(child.buffers()[1])[4 * child.offset : 4 * (child.offset + count)]
    both = array.array("I", bytes(8 * count))
    both[0::2] = array.array("I", [4]) * count
    both[1::2] = array.array("I", bits.tobytes())
    if _SWAPPED:
        both.byteswap()
    return both.tobytes()


def _written(values: Iterable[bytes | None]) -> list[bytes]:
    pack = _LENGTH.pack
    return [wire.NULL if value is None else pack(len(value)) + value for value in values]


def _with_sent(found: list[bytes], sent: pa.Array) -> list[bytes]:
    if sent.null_count < len(sent):
        for at, value in enumerate(sent.to_pylist()):
            if value is not None:
                found[at] = wire.field(value)
    return found


_FORMS: Mapping[str, Callable[[Column], FiledColumn]] = {
    "text": _Text,
    "uuid": _Uuid,
    "jsonb": _Json,
    "bigint": _Bigint,
    "integer": _Integer,
    "timestamp with time zone": _Time,
    "real[]": _Reals,
}


def filed(column: Column) -> FiledColumn:
    """Return what holds a table's column in a file."""
    return _FORMS.get(wire.canonical_type(column.type), FiledColumn)(column)
