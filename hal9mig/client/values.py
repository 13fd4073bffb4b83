"""Python values of a record's columns, to and from PostgreSQL without losing anything.

Values go out as texts that the server casts: psycopg2 would write ``-0.0`` as a number without sign
and a list of numbers as numerics. They come back as psycopg2 gives them, but for what Python cannot
hold: a time that is infinite or beyond the year 9999 is its text, a number in JSON is an int or a
Decimal, and JSON's ``null`` is ``Json("null")``, because None is SQL's NULL.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import json
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import psycopg2
import psycopg2.extensions

from hal9mig import errors
from hal9mig.categories import wire
from hal9mig.categories.declaration import Category
from hal9mig.stores.connection import Connection

Record = dict[str, Any]
_JSONS = ("json", "jsonb")
_ENCODER = msgspec.json.Encoder(decimal_format="number")
_NULL = "null"
_NOT_FINITE = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}


@dataclasses.dataclass(frozen=True)
class Json:
    """JSON as text, taken and given back as it stands; ``Json("null")`` is JSON's null."""

    text: str


def parameter(value: Any, type_name: str) -> Any:
    """Return what the driver is given for a value, to stand in front of a cast.

    Raises:
        errors.InvalidRecord: the value cannot be one of this type.
    """
    kind = wire.canonical_type(type_name)
    try:
        return _array(value, kind[:-2]) if kind.endswith("[]") else _scalar(value, kind)
    except (TypeError, ValueError, RecursionError) as error:
        raise errors.InvalidRecord(f"{value!r:.100} cannot be a {type_name}: {error}") from None


def _array(value: Any, kind: str) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)):
        return [_array(item, kind) for item in value]
    return _scalar(value, kind)


def _scalar(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind in _JSONS:
        return _text(value.text if isinstance(value, Json) else _json_text(value))
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return repr(value) if math.isfinite(value) else _NOT_FINITE[str(value)]
        case int() | decimal.Decimal() | uuid.UUID():
            return str(value)
        case datetime.date() | datetime.time():  # a datetime is a date too
            return value.isoformat()
        case bytes() | bytearray() | memoryview():
            return psycopg2.Binary(value)
        case str():
            return _text(value)
        case Mapping() | Sequence() | Json():
            raise TypeError("it is no single value")
    return value


def _text(value: str) -> str:
    if "\0" in value:
        raise ValueError("it holds a zero byte")
    value.encode()
    return value


def _json_text(value: Any) -> str:
    _check_json(value)
    return _ENCODER.encode(value).decode()


def _check_json(value: Any) -> None:
    # The encoder would write these as null.
    if isinstance(value, (float, decimal.Decimal)) and not math.isfinite(value):
        raise ValueError("JSON has no such number")
    if isinstance(value, Mapping):
        for member in value.values():
            _check_json(member)
    elif isinstance(value, (list, tuple)):
        for member in value:
            _check_json(member)


def _json(text: str | None, _: object) -> Any:
    if text is None:
        return None
    if text == _NULL:
        return Json(_NULL)
    try:
        return json.loads(text, parse_float=decimal.Decimal, parse_int=wire.whole_number)
    except (RecursionError, decimal.InvalidOperation):
        return Json(text)


def _bytes(text: str | None, cursor: Any) -> bytes | None:
    return None if text is None else bytes(psycopg2.BINARY(text, cursor))


def _or_text(cast: Callable[[str | None, Any], Any]) -> Callable[[str | None, Any], Any]:
    def read(text: str | None, cursor: Any) -> Any:
        if text is not None and "infinity" in text:
            return text
        try:
            return cast(text, cursor)
        except (ValueError, OverflowError, psycopg2.DataError):
            return text

    return read


def _casters() -> list[Any]:
    made: list[Any] = []
    kinds: tuple[tuple[str, int, int, Any], ...] = (
        ("JSON", 114, 199, _json),
        ("JSONB", 3802, 3807, _json),
        ("BYTES", 17, 1001, _bytes),
        ("DATE_OR_TEXT", 1082, 1182, _or_text(psycopg2.extensions.PYDATE)),
        ("TIMESTAMP_OR_TEXT", 1114, 1115, _or_text(psycopg2.extensions.PYDATETIME)),
        ("TIMESTAMPTZ_OR_TEXT", 1184, 1185, _or_text(psycopg2.extensions.PYDATETIMETZ)),
    )
    for name, oid, array_oid, read in kinds:
        single = psycopg2.extensions.new_type((oid,), name, read)
        made += [single, psycopg2.extensions.new_array_type((array_oid,), f"{name}ARRAY", single)]
    # Text, as the scalar is; without this an array of uuids would be one text.
    made.append(psycopg2.extensions.new_array_type((2951,), "UUIDARRAY", psycopg2.STRING))
    return made


_CASTERS = _casters()


def prepare(connection: Connection) -> None:
    """Let a connection give values the way this module says."""
    for caster in _CASTERS:
        psycopg2.extensions.register_type(caster, connection)


def record_parameters(category: Category, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a record's columns by name; the version may be left out.

    Raises:
        errors.InvalidRecord: a column is missing or unknown, or a value has the wrong form.
    """
    names = category.source.names
    unknown = sorted(set(record) - set(names))
    missing = [name for name in names if name not in record and name != category.source.version]
    if unknown or missing:
        what = f"has no column {', '.join(unknown)}" if unknown else f"needs {', '.join(missing)}"
        raise errors.InvalidRecord(f"A record of {category.slug} {what}.", hint=f"its columns: {', '.join(names)}")
    return {
        column.name: parameter(record[column.name], column.type)
        for column in category.source.columns
        if column.name in record
    }


def key_parameters(category: Category, key: Any) -> tuple[Any, ...]:
    """Return the parameters of a key, given as its value, or as a sequence of several.

    Raises:
        errors.InvalidRecord: it has another number of parts, or a part has the wrong form.
    """
    several = isinstance(key, Sequence) and not isinstance(key, (str, bytes, bytearray))
    parts = tuple(key) if several else (key,)
    if len(parts) != len(category.key) or None in parts:
        raise errors.InvalidRecord(f"A key of {category.slug} is {', '.join(category.key)}; got {key!r:.100}.")
    return tuple(parameter(part, column.type) for part, column in zip(parts, category.source.key_columns, strict=True))
