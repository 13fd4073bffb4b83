"""Which fields of a record differ, and how: as text from both stores, down to an array's element.

A column differs when its part of the record's hash does, so this never disagrees with the comparison
of whole records. Elements of arrays are numbered from 1 as PostgreSQL does, members of JSON from 0 as its
operators do, so that the name of a difference can be put into a query.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from hal9mig import model
from hal9mig.categories import identifiers, wire
from hal9mig.categories.declaration import Category, Column
from hal9mig.categories.filters import EVERYTHING
from hal9mig.engine.compare.keystream import Query
from hal9mig.ledger.verify_results import FieldDifference
from hal9mig.stores import projection
from hal9mig.stores.connection import Cursor

#: Characters of a value that are kept.
CLIP = 200
#: Characters of a value up to which it is fetched whole, to find the place where it differs.
_WHOLE = 1_000_000
_COLUMNS = 16  # columns of one record whose values are fetched at once
_KEYS = 100  # records whose columns' hashes are fetched at once
_ELEMENT = re.compile(r'"(?:[^"\\]|\\.)*"|[^,{}]+')
Values = Mapping[str, tuple[str | None, int]]


def differing(
    flat: Cursor, hier: Cursor, category: Category, keys: Sequence[model.Key]
) -> Iterator[tuple[model.Key, Sequence[FieldDifference]]]:
    """Yield each key with its differing fields: nothing for a record that has come to agree since."""
    for start in range(0, len(keys), _KEYS):
        some = keys[start : start + _KEYS]
        scope = projection.Keys(keys=some)
        left = _hashes(flat, category, projection.flat_rows(category, scope, EVERYTHING))
        right = _hashes(hier, category, projection.rebuilt_rows(category, scope, hashed=True))
        for key in some:
            if key in left and key in right:
                yield key, _record(flat, hier, category, key, left[key], right[key])


def _record(
    flat: Cursor, hier: Cursor, category: Category, key: model.Key, left: list[list[int]], right: list[list[int]]
) -> list[FieldDifference]:
    if len(left) != len(right):
        return [FieldDifference(field="number of records", flat=str(len(left)), hier=str(len(right)))]
    compared = zip(category.source.columns, left[0], right[0], strict=True)
    columns = [column for column, one, other in compared if one != other]
    scope = projection.Keys(keys=[key])
    found: list[FieldDifference] = []
    for start in range(0, len(columns), _COLUMNS):
        some = columns[start : start + _COLUMNS]
        flat_values = _values(flat, some, projection.flat_rows(category, scope, EVERYTHING))
        hier_values = _values(hier, some, projection.rebuilt_rows(category, scope))
        if flat_values and hier_values:
            found += [_column(column, flat_values[column.name], hier_values[column.name]) for column in some]
    return found


def _hashes(cursor: Cursor, category: Category, rows: Query) -> dict[model.Key, list[list[int]]]:
    hashes = ", ".join(projection.column_hash(column, "s") for column in category.source.columns)
    cursor.execute(f"SELECT {projection.key_texts(category)}, {hashes} {rows[0]}", rows[1])
    count = len(category.key)
    found: dict[model.Key, list[list[int]]] = {}
    for row in cursor.fetchall():
        found.setdefault(tuple(row[:count]), []).append(list(row[count:]))
    return found


def _values(cursor: Cursor, columns: Sequence[Column], rows: Query) -> Values:
    parts = []
    for column in columns:
        text = f"{identifiers.quoted(column.name, 's')}::text"
        parts.append(f"CASE WHEN length({text}) <= {_WHOLE} THEN {text} ELSE left({text}, {CLIP}) END, length({text})")
    cursor.execute(f"SELECT {', '.join(parts)} {rows[0]} LIMIT 1", rows[1])
    row = cursor.fetchone()
    if row is None:
        return {}
    return {column.name: (row[2 * at], row[2 * at + 1] or 0) for at, column in enumerate(columns)}


def _column(column: Column, flat: tuple[str | None, int], hier: tuple[str | None, int]) -> FieldDifference:
    (one, one_length), (other, other_length) = flat, hier
    if one is None or other is None:
        return FieldDifference(field=column.name, flat=_clipped(one), hier=_clipped(other))
    if max(one_length, other_length) > _WHOLE:
        return FieldDifference(
            field=column.name,
            flat=f"{one[:CLIP]}... ({one_length:,} characters)",
            hier=f"{other[:CLIP]}... ({other_length:,} characters)",
        )
    kind = wire.canonical_type(column.type)
    if kind.endswith("[]"):
        return _array(column.name, one, other)
    if kind in ("json", "jsonb"):
        return _json(column.name, one, other)
    return _texts(column.name, one, other)


def _texts(name: str, one: str, other: str) -> FieldDifference:
    """Both texts, clipped to where they begin to differ."""
    if max(len(one), len(other)) <= CLIP:
        return FieldDifference(field=name, flat=one, hier=other)
    first = next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), min(len(one), len(other))
    )
    start = max(0, first - CLIP // 4)
    return FieldDifference(field=name, flat=_window(one, start), hier=_window(other, start))


def _window(text: str, start: int) -> str:
    head = "..." if start else ""
    tail = "..." if start + CLIP < len(text) else ""
    return f"{head}{text[start : start + CLIP]}{tail}"


def _clipped(text: str | None) -> str | None:
    return None if text is None else _window(text, 0)


def _array(name: str, one: str, other: str) -> FieldDifference:
    if not all(text.startswith("{") and not text.startswith("{{") for text in (one, other)):
        return _texts(name, one, other)  # several dimensions, or bounds of its own
    left, right = _ELEMENT.findall(one), _ELEMENT.findall(other)
    for at, (mine, its) in enumerate(zip(left, right, strict=False), start=1):
        if mine != its:
            return FieldDifference(field=f"{name}[{at}]", flat=_element(mine), hier=_element(its))
    if len(left) != len(right):
        return FieldDifference(field=f"length of {name}", flat=str(len(left)), hier=str(len(right)))
    return _texts(name, one, other)


def _element(text: str) -> str | None:
    return None if text == "NULL" else _clipped(text)


def _json(name: str, one: str, other: str) -> FieldDifference:
    try:
        left, right = (json.loads(text, parse_int=_Number, parse_float=_Number) for text in (one, other))
        path, left, right = _descend(name, left, right)
        if isinstance(left, list) and isinstance(right, list) and len(left) != len(right):
            return FieldDifference(field=f"length of {path}", flat=str(len(left)), hier=str(len(right)))
        if path != name:
            return FieldDifference(field=path, flat=_json_text(left), hier=_json_text(right))
    except (ValueError, RecursionError):
        pass  # nested too deeply to be walked
    return _texts(name, one, other)


class _Number:
    """A number as it is written: 1 and 1.0 are equal and yet not the same."""

    def __init__(self, text: str):
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Number) and other.text == self.text

    __hash__ = None  # type: ignore[assignment]


class _Absent:
    """No member of this name."""


def _descend(path: str, left: Any, right: Any) -> tuple[str, Any, Any]:
    """Follow the first difference down to the values that differ themselves."""
    while True:
        step: tuple[str, Any, Any] | None = None
        if isinstance(left, dict) and isinstance(right, dict):
            for name in sorted(left.keys() | right.keys()):
                mine, its = left.get(name, _Absent()), right.get(name, _Absent())
                if not _alike(mine, its):
                    step = (f"{path}.{name}", mine, its)
                    break
        elif isinstance(left, list) and isinstance(right, list):
            for at, (mine, its) in enumerate(zip(left, right, strict=False)):
                if not _alike(mine, its):
                    step = (f"{path}[{at}]", mine, its)
                    break
        if step is None:
            return path, left, right
        path, left, right = step


def _alike(left: Any, right: Any) -> bool:
    """Whether two values are written alike; true is not 1."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_alike(left[name], right[name]) for name in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_alike, left, right))
    return bool(left == right)


def _json_text(value: Any) -> str | None:
    return None if isinstance(value, _Absent) else _clipped(_encode(value).decode())


_encode = msgspec.json.Encoder(enc_hook=lambda number: msgspec.Raw(number.text.encode())).encode
