"""Records of one's own to write with: a real record under another key, with everything unique made anew."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from typing import Any

from hal9mig.categories import wire
from hal9mig.categories.declaration import Category
from hal9mig.client.values import Record
from hal9mig.stores.connection import Connection

#: Begins every text of a reserved key; a path of its own where keys are paths.
PREFIX = "hal9.benchmark"
#: Numbers that no application gives out begin here and go down.
_LOWEST = {"bigint": -(1 << 62), "integer": -(1 << 30), "smallint": -(1 << 14), "numeric": -(10**17)}


class Unmade(Exception):
    """No record of one's own can be made; the text says why."""


def unique_columns(category: Category, flat: Connection, hier: Connection) -> frozenset[str]:
    """Return the source's columns, other than the key's, of which either store allows each value only once."""
    found: set[str] = set()
    tables = [(flat, category.source.qualified), *((hier, root.qualified) for root in category.roots)]
    for connection, table in tables:
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT array_agg(a.attname::text) FROM pg_index i "
                "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) "
                "WHERE i.indisunique AND i.indrelid = to_regclass(%s) GROUP BY i.indexrelid",
                (table,),
            )
            for (names,) in cursor.fetchall():
                if not set(names) & set(category.key):
                    found.update(names)
    return frozenset(found & set(category.source.names))


def record(category: Category, real: Mapping[str, Any], unique: Collection[str], number: int) -> Record:
    """Return a record like a real one, under a reserved key and without a version.

    Raises:
        Unmade: a value that has to be its own is of a type that none can be made of.
    """
    kinds = {column.name: wire.canonical_type(column.type) for column in category.source.columns}
    own = dict(real)
    for name in (*category.key, *sorted(unique)):
        own[name] = _value(name, kinds[name], number)
    if category.source.version is not None:
        own.pop(category.source.version, None)
    return own


def _value(name: str, kind: str, number: int) -> object:
    if kind == "uuid":
        return uuid.uuid5(uuid.NAMESPACE_OID, f"{PREFIX}.{name}.{number}")
    if kind in ("text", "character varying", "varchar", "citext"):
        return f"{PREFIX}.{name}.{number}"
    if kind in _LOWEST:
        return _LOWEST[kind] + number
    raise Unmade(f"{name} has to be unique, and no value of type {kind} can be made up")
