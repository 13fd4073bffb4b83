"""Sequences that number a store's rows: brought past what is there, so that new rows do not collide."""

from __future__ import annotations

from collections.abc import Sequence

from hal9mig.categories.declaration import Category
from hal9mig.model import StoreName
from hal9mig.stores.connection import Connection


def advance(connection: Connection, category: Category, side: StoreName) -> list[tuple[str, int]]:
    """Bring each serial or identity column's sequence past the column's largest value.

    Returns:
        each sequence that was moved, with its new last value.
    """
    tables: Sequence[str]
    if side is StoreName.FLAT:
        tables = [f"{category.source.schema}.{category.source.table}"]
    else:
        tables = [target.qualified for target in category.targets]
    moved = []
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT t.name, a.attname, pg_get_serial_sequence(t.name, a.attname) "
            "FROM unnest(%s::text[]) AS t (name) JOIN pg_attribute a ON a.attrelid = t.name::regclass "
            "WHERE a.attnum > 0 AND NOT a.attisdropped AND pg_get_serial_sequence(t.name, a.attname) IS NOT NULL",
            (list(tables),),
        )
        for table, column, sequence in cursor.fetchall():
            cursor.execute(f'SELECT max("{column}") FROM {table}')
            largest = (cursor.fetchone() or (None,))[0]
            cursor.execute(f"SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM {sequence}")
            last = (cursor.fetchone() or (0,))[0]
            if largest is not None and largest > last:
                cursor.execute("SELECT setval(%s, %s)", (sequence, largest))
                moved.append((sequence, int(largest)))
    return moved
