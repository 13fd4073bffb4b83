"""SQL over a declared category: predicates on its key, its flat rows, its rebuilt rows, and their hashes.

A record's hash is ``hash_record_extended`` over its canonical form. Many types go in as the bytes their
send functions give, or as text, because their hash functions are made for equality and not for proof:
to those ``-0.0`` is ``0.0`` and ``1.0`` is ``1.00``, that of numeric and so that of jsonb leaves out the
sign, that of jsonb repeats itself every 32 elements, and those of 64-bit numbers and times have 32 bits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hal9mig.categories import identifiers, keys, wire
from hal9mig.categories.declaration import Category, Column
from hal9mig.categories.filters import Filter
from hal9mig.model import Key

Params = list[object]
_SENT = {
    "real": "float4send", "double precision": "float8send", "numeric": "numeric_send", "bigint": "int8send",
    "timestamp with time zone": "timestamptz_send", "timestamp without time zone": "timestamp_send",
    "time without time zone": "time_send", "time with time zone": "timetz_send", "interval": "interval_send",
}  # fmt: skip
_HASHABLE = frozenset({"uuid", "integer", "smallint", "boolean", "bytea", "inet", "cidr", "macaddr", "date"})
_TEXTS = frozenset({"text", "character", "character varying"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounds:
    """A range of keys: above ``after`` (exclusive), up to ``upto`` (inclusive); None is open.

    ``start`` (inclusive) and ``before`` (exclusive) cut a part out of it, as ``bucket`` numbers them.
    ``bytewise`` compares texts by their bytes, as two servers with different collations must.
    """

    after: Key | None = None
    upto: Key | None = None
    start: Key | None = None
    before: Key | None = None
    bytewise: bool = False

    def sql(self, category: Category, columns: Sequence[str]) -> tuple[str, Params]:
        """Return the predicate on these columns, which hold the key, and its parameters."""
        typed = _typed(category, columns)
        ordered, kinds = [_ordered(name, kind, self.bytewise) for name, kind in typed], [kind for _, kind in typed]
        whole, values = between(ordered, kinds, self.after, self.upto)
        left, right = _tuple(ordered), _tuple([f"%s::{kind}" for kind in kinds])
        for operator, key in ((">=", self.start), ("<", self.before)):
            if key is not None:
                whole += f" AND {left} {operator} {right}"
                values.extend(key)
        return whole, values


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keys:
    """A set of keys."""

    keys: Sequence[Key]

    def sql(self, category: Category, columns: Sequence[str]) -> tuple[str, Params]:
        """Return the predicate on these columns, which hold the key, and its parameters."""
        arrays: Params = [list(part) for part in zip(*self.keys, strict=True)] or [[] for _ in columns]
        kinds = [kind for _, kind in _typed(category, columns)]
        if len(columns) == 1:
            return f"{columns[0]} = ANY(%s::{kinds[0]}[])", arrays
        unnested = ", ".join(f"%s::{kind}[]" for kind in kinds)
        return f"({', '.join(columns)}) IN (SELECT * FROM unnest({unnested}))", arrays


Scope = Bounds | Keys


def between(columns: Sequence[str], kinds: Sequence[str], after: Key | None, upto: Key | None) -> tuple[str, Params]:
    """Return the predicate of rows above a key and up to another; as a comparison of rows, so that an index serves."""
    left, right = _tuple(columns), _tuple([f"%s::{kind}" for kind in kinds])
    parts: list[str] = []
    values: Params = []
    for operator, key in ((">", after), ("<=", upto)):
        if key is not None:
            parts.append(f"{left} {operator} {right}")
            values.extend(key)
    return " AND ".join(parts) or "TRUE", values


def _typed(category: Category, columns: Sequence[str]) -> list[tuple[str, str]]:
    return [(name, keys.cast(column.type)) for name, column in zip(columns, category.source.key_columns, strict=True)]


def _tuple(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"


def _ordered(name: str, kind: str, bytewise: bool) -> str:
    return f'{name} COLLATE "C"' if bytewise and is_text(kind) else name


def is_text(type_name: str) -> bool:
    """Whether values of a type are ordered by a collation."""
    return wire.canonical_type(type_name) in _TEXTS


def key_order(category: Category, alias: str, *, bytewise: bool = False) -> str:
    """Return the ORDER BY list of the key."""
    return ", ".join(
        _ordered(identifiers.quoted(column.name, alias), column.type, bytewise)
        for column in category.source.key_columns
    )


def bucket(category: Category, alias: str, edges: Sequence[Key]) -> tuple[str, Params]:
    """Return the expression of a record's place between keys in bytewise order: how many are not above it."""
    if not edges:
        return "0", []
    columns = category.source.key_columns
    parts = [_ordered(identifiers.quoted(column.name, alias), column.type, True) for column in columns]
    arrays: Params = [list(part) for part in zip(*edges, strict=True)]
    if len(columns) == 1:
        return f"width_bucket({parts[0]}, %s::{keys.cast(columns[0].type)}[])", arrays
    names = [f"k{at}" for at in range(len(columns))]
    row = ", ".join(_ordered(f"u.{name}", column.type, True) for name, column in zip(names, columns, strict=True))
    unnested = ", ".join(f"%s::{keys.cast(column.type)}[]" for column in columns)
    edge_rows = f"unnest({unnested}) WITH ORDINALITY AS u ({', '.join(names)}, n)"
    # The query of the keys stands by itself, so it runs once.
    return (
        f"width_bucket(row({', '.join(parts)}), (SELECT array_agg(row({row}) ORDER BY u.n) FROM {edge_rows}))",
        arrays,
    )


def _canonical(alias: str, column: Column) -> str:
    name, kind = identifiers.quoted(column.name, alias), wire.canonical_type(column.type)
    if kind in _SENT:
        return f"{_SENT[kind]}({name})"
    # An array is sent with the number of its element type, which is the same everywhere only for types
    # that come with PostgreSQL.
    if kind.endswith("[]") and kind[:-2] in _SENT.keys() | _HASHABLE | _TEXTS | {"json", "jsonb"}:
        return f"array_send({name})"
    return name if kind in _HASHABLE else f'{name}::text COLLATE "C"'


def record_hash(category: Category, alias: str) -> str:
    """Return the expression of a record's 64-bit hash over an alias with the source's columns."""
    columns = ", ".join(_canonical(alias, column) for column in category.source.columns)
    return f"hash_record_extended(row({columns}), 0)"


def column_hash(column: Column, alias: str) -> str:
    """Return the expression of one field's 64-bit hash, equal wherever the field's part in the record's is."""
    return f"hash_record_extended(row({_canonical(alias, column)}), 0)"


def flat_rows(category: Category, scope: Scope, chosen: Filter) -> tuple[str, Params]:
    """Return ``FROM ... s WHERE ...`` over the flat table."""
    where, values = scope.sql(category, identifiers.each(category.key, "s"))
    condition, more = chosen.sql("s")
    return f"FROM {category.source.qualified} s WHERE {where} AND {condition}", values + more


def rebuilt_rows(category: Category, scope: Scope, *, hashed: bool = False) -> tuple[str, Params]:
    """Return ``FROM (...) s`` over the flat rows rebuilt from the hierarchical tables.

    Args:
        hashed: only hashes are made of the rows, so a document may stay the text that its hash is made of.
    """
    values: Params = []

    def predicate(columns: tuple[str, ...]) -> str:
        text, more = scope.sql(category, columns)
        values.extend(more)
        return f"({text})"

    return f"FROM ({category.rebuild_where(predicate, hashed=hashed)}) s", values


def key_texts(category: Category, alias: str = "s") -> str:
    """Return the select list of the key, cast to text."""
    return texts(category, category.key, alias)


def texts(category: Category, columns: Sequence[str], alias: str = "") -> str:
    """Return the select list of the texts of these columns, which hold the key."""
    pairs = zip(category.source.key_columns, columns, strict=True)
    return ", ".join(keys.text_sql(column.type, identifiers.quoted(name, alias)) for column, name in pairs)


def as_key(category: Category, owner: Sequence[str], alias: str) -> str:
    """Return the select list of the columns that hold the key, named as the source's."""
    pairs = zip(owner, category.key, strict=True)
    return ", ".join(f"{identifiers.quoted(name, alias)} AS {identifiers.quoted(key)}" for name, key in pairs)
