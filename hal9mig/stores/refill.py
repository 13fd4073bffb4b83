"""Fills a live table with its shadow's rows, in the transaction that swaps the others.

Only what differs is touched. A row that is the same in both stays where it is, so that whoever refers to
it keeps what it refers to, and a table that has hardly changed is done in a moment.
"""

from __future__ import annotations

from hal9mig.categories import identifiers
from hal9mig.stores.connection import Cursor
from hal9mig.stores.relation import Relation

# Those of partitions too, which have their own.
_TABLES = (
    "SELECT oid, oid::regclass::text AS name FROM pg_class WHERE oid = %(table)s::regclass "
    "OR oid IN (SELECT relid FROM pg_partition_tree(%(table)s::regclass))"
)
_SWITCHES = f"""
SELECT format('ALTER TABLE %%s %%s %%s %%I', CASE what WHEN 'RULE' THEN '' ELSE 'ONLY ' END || t.name, {{state}},
              what, e.name)
  FROM ({_TABLES}) t
  JOIN (SELECT tgrelid AS oid, 'TRIGGER' AS what, tgname AS name, tgenabled AS enabled FROM pg_trigger
         WHERE NOT tgisinternal
        UNION ALL SELECT ev_class, 'RULE', rulename, ev_enabled FROM pg_rewrite) e USING (oid)
 WHERE enabled <> 'D' ORDER BY t.oid = %(table)s::regclass DESC, t.oid, e.name
"""
_OFF = _SWITCHES.format(state="'DISABLE'")
_ON = _SWITCHES.format(
    state="CASE enabled WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE' END"
)


def refill(cursor: Cursor, one: Relation, *, shadow: str, referenced: bool) -> list[str]:
    """Bring a live table to its shadow's rows; its triggers and rules do nothing about it.

    Args:
        shadow: the table with the rows.
        referenced: whether other tables refer to it. Rows that differ are then changed in place; else they are
            taken out before they are put in, so that unique values may pass from one to another.

    Returns:
        the statements that switch its triggers and rules on again, once no check waits for the transaction's end.

    Raises:
        psycopg2.Error: the table does not take a row.
    """
    cursor.execute(_ON, {"table": one.qualified})
    on = [statement for (statement,) in cursor.fetchall()]
    cursor.execute(_OFF, {"table": one.qualified})
    for (statement,) in cursor.fetchall():
        cursor.execute(statement)
    names = ", ".join(one.names)
    key = [column.name for column in one.key]
    same_key = identifiers.same("t", key, "s", key)
    # As they are stored: not every type can be compared, and to some 1.0 and 1.00 are the same.
    old, new = (f"ROW({', '.join(f'{alias}.{name}' for name in one.names)})" for alias in "ts")
    same = same_key if referenced else f"{same_key} AND record_image_eq({old}, {new})"
    cursor.execute(f"DELETE FROM {one.qualified} t WHERE NOT EXISTS (SELECT FROM {shadow} s WHERE {same})")
    if referenced:
        cursor.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attidentity = 'a'", (one.qualified,)
        )
        always = {name for (name,) in cursor.fetchall()}
        assigned = ", ".join(
            f"{name} = s.{name}"
            for column, name in zip(one.columns, one.names, strict=True)
            if column.name not in always
        )
        cursor.execute(
            f"UPDATE {one.qualified} t SET {assigned} FROM {shadow} s "
            f"WHERE {same_key} AND record_image_ne({old}, {new})"
        )
    cursor.execute(
        f"INSERT INTO {one.qualified} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM {shadow} s "
        f"WHERE NOT EXISTS (SELECT FROM {one.qualified} t WHERE {same_key})"
    )
    return on
