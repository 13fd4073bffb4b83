"""Types that a declaration calls by a domain's name, which only the server can tell from any other.

A domain's values are sent as those of the type it is over, and that is what everything else is told: the other
store needs no domain of this name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import psycopg2

from hal9mig.categories import wire
from hal9mig.categories.declaration import Category, Computed, Element, FilterField, Target
from hal9mig.categories.registry import Registry
from hal9mig.stores.connection import Connection


def base(oid: str) -> str:
    """Return the expression of the type that a type of this oid is over in the end; its own where it is no domain."""
    return (
        "(WITH RECURSIVE over (oid, depth) AS ("
        f"SELECT ({oid})::oid, 0 UNION ALL SELECT typbasetype, depth + 1 FROM over JOIN pg_type USING (oid) "
        "WHERE typtype = 'd') SELECT oid FROM over ORDER BY depth DESC LIMIT 1)"
    )


def resolved(known: Registry, connect: Callable[[], Connection]) -> Registry:
    """Return the categories with the types that the flat store's domains are over.

    Args:
        connect: opens the flat store; not called where every type is one of PostgreSQL's own.

    Raises:
        errors.Unreachable: it is called, and the store cannot be reached.
    """
    if not any(_unknown(category) for category in known.categories.values()):
        return known
    connection = connect()
    try:
        found = {slug: category(one, connection) for slug, one in known.categories.items()}
    finally:
        connection.close()
    return Registry(categories=found, origins=known.origins)


def category(declared: Category, flat: Connection) -> Category:
    """Return one category with the types that the flat store's domains are over."""
    over = _over(flat, _unknown(declared))
    if not over:
        return declared
    source = dataclasses.replace(
        declared.source, columns=tuple(_retyped(column, over) for column in declared.source.columns)
    )
    filters = {name: _retyped(field, over) for name, field in declared.filters.items()}
    targets = tuple(_target(target, over) for target in declared.targets)
    return dataclasses.replace(declared, source=source, targets=targets, filters=filters)


def _target(target: Target, over: Mapping[str, str]) -> Target:
    columns = (
        _retyped(column, over) if isinstance(column, Computed | Element) else column for column in target.columns
    )
    return dataclasses.replace(target, columns=tuple(columns))


def _retyped(column: Any, over: Mapping[str, str]) -> Any:
    return dataclasses.replace(column, type=over[column.type]) if column.type in over else column


def _unknown(declared: Category) -> list[str]:
    types = [column.type for column in declared.source.columns]
    types += [field.type for field in declared.filters.values() if isinstance(field, FilterField)]
    for target in declared.targets:
        types += [column.type for column in target.columns if isinstance(column, Computed | Element)]
    return [name for name in dict.fromkeys(types) if not wire.is_builtin(name)]


def _over(flat: Connection, names: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names:
        with flat.cursor() as cursor:
            cursor.execute("SAVEPOINT hal9mig_type")
            try:
                cursor.execute(
                    "SELECT format_type(over, NULL) FROM (SELECT oid, "
                    f"{base('t.oid')} AS over FROM pg_type t WHERE oid = to_regtype(%s)) AS known WHERE over <> oid",
                    (name,),
                )
                row = cursor.fetchone()
            except psycopg2.ProgrammingError:
                # No type's name at all; the check of the category says so.
                row = None
                cursor.execute("ROLLBACK TO SAVEPOINT hal9mig_type")
            cursor.execute("RELEASE SAVEPOINT hal9mig_type")
        if row is not None:
            found[name] = row[0]
    return found
