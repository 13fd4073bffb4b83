"""PostgreSQL's binary COPY format: fields as the server sends them, and codecs for single values.

A *field* here is a length word followed by the data, exactly as it stands in the stream, so that a
field can go from one COPY to another untouched. NULL is the length -1 without data.

Source: PostgreSQL documentation, COPY, "Binary Format"; the value formats are those of each type's
send and receive functions.
"""

from __future__ import annotations

import datetime
import decimal
import json
import re
import struct
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec

from hal9mig import errors
from hal9mig.categories.native import split as split

SIGNATURE = b"PGCOPY\n\xff\r\n\0"
HEADER = SIGNATURE + struct.pack("!ii", 0, 0)
TRAILER = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"

_LENGTH = struct.Struct("!i")
_EPOCH = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_EPOCH_DAY = datetime.date(2000, 1, 1)
_INFINITE = (2**63 - 1, -(2**63))
_JSON = msgspec.json.Encoder(decimal_format="number")
#: Python refuses to make an int of more digits than 4,300, as that takes long.
_MOST_DIGITS = 4000
#: The longest number that PostgreSQL keeps has so many digits before its point.
_LONGEST_NUMERIC = 131_072
_spelled = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch


class Codec(Protocol):
    """How values of one type are read from and written to a field."""

    def decode(self, data: bytes) -> Any:
        """Return the Python value of a field's data (without the length word)."""

    def encode(self, value: Any) -> bytes:
        """Return the whole field (with the length word) of a value that is not None."""


def field(data: bytes) -> bytes:
    """Return data as a field."""
    return _LENGTH.pack(len(data)) + data


def whole_number(text: str) -> int | decimal.Decimal:
    """Return a whole number of any length; one that Python makes no int of is a Decimal."""
    return int(text) if len(text) < _MOST_DIGITS else decimal.Decimal(text)


def rows_of(message: bytes) -> bytes | None:
    """Return the tuple in one message of a COPY TO, without the header; None for the trailer.

    The server sends each row as one message (protocol, CopyData), the header with the first.
    """
    if message.startswith(SIGNATURE):
        message = message[len(HEADER) :]
    return None if message == TRAILER or not message else message


class _Fixed:
    def __init__(self, form: str):
        self._data = struct.Struct("!" + form)
        self._field = struct.Struct("!i" + form)
        self._size = self._data.size

    def decode(self, data: bytes) -> Any:
        return self._data.unpack(data)[0]

    def encode(self, value: Any) -> bytes:
        try:
            return self._field.pack(self._size, value)
        except (struct.error, OverflowError) as error:
            raise errors.RecordRejected(f"{value!r} does not fit its column: {error}") from None


class _Text:
    def decode(self, data: bytes) -> str:
        return data.decode()

    def encode(self, value: Any) -> bytes:
        if not isinstance(value, str):
            raise errors.RecordRejected(f"{value!r} is no text.")
        return field(value.encode())


class _Bytes:
    def decode(self, data: bytes) -> bytes:
        return data

    def encode(self, value: Any) -> bytes:
        return _LENGTH.pack(len(value)) + bytes(value)


class _Uuid:
    def decode(self, data: bytes) -> uuid.UUID:
        return uuid.UUID(bytes=data)

    def encode(self, value: Any) -> bytes:
        # A text in another spelling would not come back the same; a uuid.UUID says that it need not.
        if isinstance(value, str) and not _spelled(value):
            raise errors.RecordRejected(f"{value!r:.60} is no uuid as PostgreSQL prints it, in lower case.")
        return b"\0\0\0\x10" + (value if isinstance(value, uuid.UUID) else uuid.UUID(value)).bytes


class _Json:
    """``json``: text. Numbers decode to int or Decimal, so that no digit is lost."""

    lead = b""

    def decode(self, data: bytes) -> Any:
        try:
            return json.loads(data[len(self.lead) :], parse_float=decimal.Decimal, parse_int=whole_number)
        except (RecursionError, decimal.InvalidOperation):
            # Of jsonb only the first; json keeps numbers that no type of number holds.
            raise errors.RecordRejected(
                "A document nested so deeply, or with such a number, has no Python value.",
                hint="pass the column through",
            ) from None

    def encode(self, value: Any) -> bytes:
        text = bytes(value) if isinstance(value, (bytes, memoryview)) else _JSON.encode(value)
        return field(self.lead + text)


class _Jsonb(_Json):
    """``jsonb``: a version byte, then text."""

    lead = b"\x01"


class _Timestamp:
    """Microseconds since 2000-01-01; ``infinity`` has no Python value and is rejected."""

    def __init__(self, *, aware: bool):
        self._zone = datetime.UTC if aware else None

    def decode(self, data: bytes) -> datetime.datetime:
        micros = int.from_bytes(data, signed=True)
        if micros in _INFINITE:
            raise errors.RecordRejected("An infinite time has no Python value.", hint="pass the column through")
        try:
            return (_EPOCH + datetime.timedelta(microseconds=micros)).replace(tzinfo=self._zone)
        except OverflowError:
            raise errors.RecordRejected("A time outside the years 1 to 9999 has no Python value.") from None

    def encode(self, value: Any) -> bytes:
        if value.tzinfo is None:
            value = value.replace(tzinfo=datetime.UTC)
        micros: int = (value - _EPOCH) // datetime.timedelta(microseconds=1)
        return b"\0\0\0\x08" + micros.to_bytes(8, signed=True)


class _Date:
    def decode(self, data: bytes) -> datetime.date:
        try:
            return _EPOCH_DAY + datetime.timedelta(days=int.from_bytes(data, signed=True))
        except OverflowError:
            raise errors.RecordRejected("This date has no Python value.") from None

    def encode(self, value: Any) -> bytes:
        days: int = (value - _EPOCH_DAY).days
        return b"\0\0\0\x04" + days.to_bytes(4, signed=True)


class _Numeric:
    """Base-10000 digits with weight, sign and display scale."""

    _SPECIAL = {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}  # noqa: RUF012

    def decode(self, data: bytes) -> decimal.Decimal:
        count, weight, sign, scale = struct.unpack_from("!HhHH", data)
        if sign in self._SPECIAL:
            return decimal.Decimal(self._SPECIAL[sign])
        digits = struct.unpack_from(f"!{count}H", data, 8)
        exponent = (weight - count + 1) * 4
        # Not by way of an int, which Python makes of some thousand digits only.
        text = "".join(f"{digit:04}" for digit in digits).lstrip("0") or "0"
        # Trim or pad to the display scale, which PostgreSQL keeps apart from the digits.
        if exponent > -scale:
            text, exponent = text + "0" * (exponent + scale), -scale
        elif exponent < -scale:
            text, exponent = text[: exponent + scale] or "0", -scale
        return decimal.Decimal((1 if sign else 0, tuple(map(int, text)), exponent))

    def encode(self, value: Any) -> bytes:
        number = decimal.Decimal(value)
        if not number.is_finite():
            same = (code for code, text in self._SPECIAL.items() if not decimal.Decimal(text).compare_total(number))
            sign = next(same)
            return field(struct.pack("!HhHH", 0, 0, sign, 0))
        negative, digits, exponent = number.as_tuple()
        power = int(exponent)
        if abs(power) > _LONGEST_NUMERIC:
            # Written out it would fill the memory before the server refused it.
            raise errors.RecordRejected(f"{number} is longer than a numeric may be.")
        scale = max(0, -power)
        text = "".join(map(str, digits)) + "0" * max(0, power)
        point = len(text) - scale
        head = text[:point] if point > 0 else ""
        tail = text[point:] if point > 0 else "0" * -point + text
        head = head.zfill(-(-len(head) // 4) * 4)
        tail = tail.ljust(-(-len(tail) // 4) * 4, "0")
        groups = [int((head + tail)[at : at + 4]) for at in range(0, len(head) + len(tail), 4)]
        weight = len(head) // 4 - 1
        while groups and groups[0] == 0:
            groups.pop(0)
            weight -= 1
        while groups and groups[-1] == 0:
            groups.pop()
        weight = weight if groups else 0
        packed = struct.pack("!HhHH", len(groups), weight, 0x4000 if negative and groups else 0, scale)
        return field(packed + struct.pack(f"!{len(groups)}H", *groups))


class _Array:
    """One-dimensional arrays; None stands for a NULL element."""

    def __init__(self, element: Codec, oid: int):
        self._element = element
        self._oid = oid

    def decode(self, data: bytes) -> list[Any]:
        dimensions, _, _ = struct.unpack_from("!iiI", data)
        if dimensions == 0:
            return []
        if dimensions > 1:
            raise errors.RecordRejected("An array of several dimensions has no Python value here.")
        (count,) = _LENGTH.unpack_from(data, 12)
        values, start = [], 20
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(data, start)
            start += 4
            values.append(None if length < 0 else self._element.decode(data[start : start + length]))
            start += max(0, length)
        return values

    def encode(self, value: Iterable[Any]) -> bytes:
        fields = [NULL if item is None else self._element.encode(item) for item in value]
        if not fields:
            return field(struct.pack("!iiI", 0, 0, self._oid))
        head = struct.pack("!iiIii", 1, int(NULL in fields), self._oid, len(fields), 1)
        return field(head + b"".join(fields))


_SCALARS: dict[str, tuple[Codec, int]] = {
    "boolean": (_Fixed("?"), 16),
    "bytea": (_Bytes(), 17),
    "bigint": (_Fixed("q"), 20),
    "smallint": (_Fixed("h"), 21),
    "integer": (_Fixed("i"), 23),
    "text": (_Text(), 25),
    "json": (_Json(), 114),
    "real": (_Fixed("f"), 700),
    "double precision": (_Fixed("d"), 701),
    "character": (_Text(), 1042),
    "character varying": (_Text(), 1043),
    "date": (_Date(), 1082),
    "timestamp without time zone": (_Timestamp(aware=False), 1114),
    "timestamp with time zone": (_Timestamp(aware=True), 1184),
    "numeric": (_Numeric(), 1700),
    "uuid": (_Uuid(), 2950),
    "jsonb": (_Jsonb(), 3802),
}
_OTHERS = frozenset(
    {
        "inet", "cidr", "macaddr", "interval", "time without time zone", "time with time zone", "timetz", "time",
        "money", "xml", "point", "tsvector",
    }
)  # fmt: skip
_ALIASES = {
    "bool": "boolean", "int2": "smallint", "int4": "integer", "int": "integer", "int8": "bigint",
    "float4": "real", "float8": "double precision", "varchar": "character varying", "char": "character",
    "bpchar": "character", "timestamptz": "timestamp with time zone", "timestamp": "timestamp without time zone",
    "decimal": "numeric",
}  # fmt: skip


def canonical_type(name: str) -> str:
    """Return a type's name as PostgreSQL's ``format_type`` prints it, without a length."""
    name = " ".join(name.lower().split())
    if name.endswith("[]"):
        return canonical_type(name[:-2]) + "[]"
    base, _, rest = name.partition("(")
    _, _, after = rest.partition(")")
    base = " ".join((base + after).split())
    return _ALIASES.get(base, base)


def is_builtin(name: str) -> bool:
    """Whether a type is one of PostgreSQL's own that is known here, so that no server has to be asked about it."""
    kind = canonical_type(name).removesuffix("[]")
    return kind in _SCALARS or kind in _OTHERS


def codec(type_name: str) -> Codec:
    """Return the codec of a type.

    Raises:
        errors.InvalidCategory: values of this type can only pass through.
    """
    name = canonical_type(type_name)
    if name.endswith("[]") and name[:-2] in _SCALARS:
        return _Array(*_SCALARS[name[:-2]])
    if name not in _SCALARS:
        raise errors.InvalidCategory(
            f"Values of type {type_name} cannot be read or made in Python.", hint="let the column Pass through"
        )
    return _SCALARS[name][0]


def document(rows: Sequence[bytes]) -> bytes:
    """Return pieces of tuples as a whole binary COPY stream."""
    return b"".join((HEADER, *rows, TRAILER))
