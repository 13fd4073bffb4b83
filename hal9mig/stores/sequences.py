"""Sequences that number a store's rows: brought past what is there, so that new rows do not collide."""

from __future__ import annotations

from collections.abc import Sequence

from hal9mig.categories.declaration import Category
from hal9mig.model import StoreName
from hal9mig.stores.connection import Connection, Cursor


def advance(connection: Connection, category: Category, side: StoreName) -> list[tuple[str, int]]:
    """Bring each serial or identity column's sequence past the column's largest value.

    Returns:
        each sequence that was moved, with its new last value.
    """
    tables: Sequence[str]
    if side is StoreName.FLAT:
        tables = [category.source.qualified]
    else:
        tables = [target.qualified for target in category.targets]
    with connection, connection.cursor() as cursor:
        return [moved for table in tables for moved in past(cursor, table)]


def past(cursor: Cursor, table: str) -> list[tuple[str, int]]:
    """Bring the sequences of a table's serial and identity columns past its rows, in the open transaction.

    Returns:
        each sequence that was moved, with its new last value; never back from where it stands.
    """
    cursor.execute(
        "SELECT quote_ident(a.attname), s.seqrelid::regclass::text, s.seqincrement, s.seqmin, s.seqmax "
        "FROM pg_attribute a "
        "JOIN pg_sequence s ON s.seqrelid = to_regclass(pg_get_serial_sequence(%(table)s, a.attname)) "
        "WHERE a.attrelid = %(table)s::regclass AND a.attnum > 0 AND NOT a.attisdropped "
        "AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)",
        {"table": table},
    )
    moved = []
    for column, sequence, step, least, most in cursor.fetchall():
        # One that counts down is brought down.
        cursor.execute(f"SELECT {'max' if step > 0 else 'min'}({column}) FROM {table}")
        (furthest,) = cursor.fetchone() or (None,)
        cursor.execute(f"SELECT CASE WHEN is_called THEN last_value ELSE last_value - %s END FROM {sequence}", (step,))
        (last,) = cursor.fetchone() or (0,)
        # A row beyond the sequence's own range is none that it can run into.
        if furthest is not None and (furthest - last) * step > 0 and least <= furthest <= most:
            cursor.execute("SELECT setval(%s, %s)", (sequence, furthest))
            moved.append((sequence, int(furthest)))
    return moved
