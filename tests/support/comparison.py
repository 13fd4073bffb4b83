"""Compares the flat and the hierarchical store completely, without anything of the product's verifier.

Every row of both sides is read in the binary form that PostgreSQL sends, so that ``-0.0``, the digits
of a jsonb number and a microsecond count. Of the product only the declaration is used: the columns,
and the category's own query that turns hierarchical rows back into flat ones, over all of them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection

import psycopg2

from hal9mig.categories.declaration import Category, Role
from tests.support.servers import Stores

Key = tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Differences:
    """Keys that only the flat store has, that only the hierarchical one has, or that are unlike in both.

    ``orphans`` counts the hierarchical rows that belong to a record which no root table holds.
    """

    compared: int
    missing: frozenset[Key] = frozenset()
    extra: frozenset[Key] = frozenset()
    unlike: frozenset[Key] = frozenset()
    orphans: int = 0


def rows(url: str, query: str, key: Collection[str]) -> dict[Key, bytes]:
    """Return each row of a query in binary form, by its key."""
    names = ", ".join(f"r.{_quoted(name)}::text" for name in key)
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {names}, record_send(r) FROM ({query}) AS r")
            found = {tuple(row[:-1]): bytes(row[-1]) for row in cursor}
            assert len(found) == cursor.rowcount, "the key is not unique"
            return found
    finally:
        connection.close()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def flat_rows(stores: Stores, category: Category, where: str = "true") -> dict[Key, bytes]:
    """Return every row of the flat table."""
    source = category.source
    # What is sent names each column's type, and a domain's is another one than that which it is over.
    columns = [
        _quoted(one.name) + ("" if "char" in one.type else f"::{one.type} AS {_quoted(one.name)}")
        for one in source.columns
    ]
    query = f"SELECT {', '.join(columns)} FROM {_quoted(source.schema)}.{_quoted(source.table)} WHERE {where}"
    return rows(stores.flat_url, query, category.key)


def hierarchical_rows(stores: Stores, category: Category) -> dict[Key, bytes]:
    """Return a flat row for every record of the hierarchical tables."""
    rebuild = re.sub(r"RANGE\([^()]*\)", "true", category.rebuild).replace("%%", "%")
    rebuild = re.sub(r"JSONB\((coalesce\([^()]*\))\)", r"\1::jsonb", rebuild)
    return rows(stores.hier_url, rebuild, category.key)


def orphans(stores: Stores, category: Category) -> int:
    """Return how many rows belong to a record that no root table holds."""
    count = 0
    connection = psycopg2.connect(stores.hier_url)
    try:
        with connection.cursor() as cursor:
            for part in category.targets:
                if part.role is not Role.PART:
                    continue
                absent = " AND ".join(
                    f"({', '.join(f'p.{_quoted(name)}' for name in part.owner)}) NOT IN "
                    f"(SELECT {', '.join(map(_quoted, root.owner))} FROM {root.qualified})"
                    for root in category.roots
                )
                cursor.execute(f"SELECT count(*) FROM {part.qualified} p WHERE {absent}")
                count += cursor.fetchone()[0]
    finally:
        connection.close()
    return count


def differences(stores: Stores, category: Category, where: str = "true") -> Differences:
    """Compare the two stores; ``where`` leaves flat rows out."""
    flat, hierarchical = flat_rows(stores, category, where), hierarchical_rows(stores, category)
    return Differences(
        compared=len(flat),
        missing=frozenset(flat.keys() - hierarchical.keys()),
        extra=frozenset(hierarchical.keys() - flat.keys()),
        unlike=frozenset(key for key, row in flat.items() if key in hierarchical and hierarchical[key] != row),
        orphans=orphans(stores, category),
    )


def assert_equal(
    stores: Stores, category: Category, *, records: int | None = None, missing: Collection[Key] = ()
) -> None:
    """Assert that both stores hold the same records, but for ``missing``, which the hierarchical one lacks."""
    found = differences(stores, category)
    assert found == Differences(compared=found.compared, missing=frozenset(missing))
    assert records is None or found.compared == records
