"""What a record's key may be, and its text: what is locked, marked, journalled and held in quarantine.

A key has exactly one text, on both sides and in every process: two that are equal to the database and not to
whoever compares texts would not exclude each other. So a type is in the list below only where equal values have
one text, made here alone; all others are refused before anything starts.
"""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterable, Sequence

from hal9mig import errors
from hal9mig.categories import wire
from hal9mig.categories.declaration import Column

#: Types a record's key may have.
KEY_TYPES = frozenset(
    {
        "uuid", "text", "character", "character varying", "bigint", "integer", "smallint", "numeric", "date",
        "timestamp with time zone", "timestamp without time zone", "boolean",
    }
)  # fmt: skip
#: Why others are not: what is equal to the database and has more than one text.
_EQUAL = {
    "real": "-0 equals 0", "double precision": "-0 equals 0", "interval": "'24 hours' equals '1 day'",
    "jsonb": "1.0 equals 1.00 inside it", "citext": "'A' equals 'a'",
}  # fmt: skip


def refusal(type_name: str, *, deterministic: bool = True) -> str | None:
    """Return why columns of a type cannot be a key; None where they can.

    Args:
        deterministic: whether the column's collation tells all texts apart that have other bytes.
    """
    kind = wire.canonical_type(type_name)
    if kind not in KEY_TYPES:
        why = _EQUAL.get(kind.rpartition(".")[2], "not every value is known to have one text only")
        return f"is {type_name}, which cannot be a key: {why}"
    if not deterministic:
        return "has a nondeterministic collation, so two texts can be one key"
    return None


def text_sql(type_name: str, expression: str) -> str:
    """Return the expression of a key column's text, which a cast leads back from.

    Names are qualified: it is done in functions with the rights of their owner and the caller's search path. Of a
    ``character`` the cast leaves out the blanks that fill it, as its comparison does.
    """
    # 1.0 is 1.00.
    exact = f"pg_catalog.trim_scale({expression})" if wire.canonical_type(type_name) == "numeric" else expression
    return f"{exact}::pg_catalog.text"


def cast(type_name: str) -> str:
    """Return the type that a key's text is cast to: without a length, which would cut it short."""
    kind = wire.canonical_type(type_name)
    # Of the two names of one type the other one means a single character.
    return "bpchar" if kind == "character" else kind if kind in KEY_TYPES else type_name


def text(type_name: str, data_field: bytes) -> str:
    """Return a key's field as the text that ``text_sql`` gives.

    Raises:
        errors.InvalidCategory: the type cannot be a key.
    """
    kind = wire.canonical_type(type_name)
    if kind not in KEY_TYPES:
        raise errors.InvalidCategory(f"A column of type {type_name} cannot be a key.", hint="docs/categories.md")
    value = wire.codec(kind).decode(data_field[4:])
    match value:
        case bool():
            return "true" if value else "false"
        case decimal.Decimal():
            return _trimmed(value)
        case datetime.datetime():
            moment = value.replace(tzinfo=None)
            fraction = f".{moment.microsecond:06}".rstrip("0") if moment.microsecond else ""
            zone = "+00" if value.tzinfo else ""
            return f"{moment.replace(microsecond=0).isoformat(' ')}{fraction}{zone}"
        case datetime.date():
            return value.isoformat()
    return str(value).rstrip(" ") if kind == "character" else str(value)


def canonical(type_names: Sequence[str], key: Sequence[str]) -> tuple[str, ...]:
    """Return a key whose texts may be spelled otherwise, as before a key had one text only.

    What is no key of these types is returned as it is.
    """
    if len(key) != len(type_names):
        return tuple(key)
    return tuple(_canonical(wire.canonical_type(kind), part) for kind, part in zip(type_names, key, strict=True))


def _canonical(kind: str, spelled: str) -> str:
    if kind == "numeric":
        try:
            return _trimmed(decimal.Decimal(spelled))
        except (decimal.InvalidOperation, TypeError):
            return spelled  # no number, and so nobody's key: the server says so
    return spelled.rstrip(" ") if kind == "character" and isinstance(spelled, str) else spelled


def changed(columns: Iterable[Column], key: Sequence[str]) -> list[str]:
    """Return the columns that a write onto a row of the same key sets.

    Of the key only what may be the same and sent otherwise: 1.00 takes the place of 1.0, which would not read
    back as the source's. Setting the rest would take a stronger lock for nothing.
    """
    return [
        column.name for column in columns
        if column.name not in key or wire.canonical_type(column.type) == "numeric"
    ]  # fmt: skip


def _trimmed(value: decimal.Decimal) -> str:
    whole = f"{value:f}"
    return whole.rstrip("0").rstrip(".") if "." in whole else whole
