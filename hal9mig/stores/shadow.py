"""Shadow tables: restored beside the live ones, in schemas of their own, until they are swapped in.

A shadow has the live table's name in the schema ``hal9_shadow_<schema>``, so its indexes and constraints
have the live ones' names from the start, and moving it into the live schema is all that a swap takes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg2
import psycopg2.errors
import psycopg2.extensions

from hal9mig import errors
from hal9mig.stores.connection import Connection
from hal9mig.stores.relation import Relation

Cursor = psycopg2.extensions.cursor
_PREFIX = "hal9_shadow"
#: Memory of a session that makes indexes.
_INDEX_MEMORY = "256MB"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dependent:
    """Something that hangs on a table's identity, so that a swap of tables would break it.

    ``refill``: whether filling the live table anew in the swap's transaction keeps it.
    """

    relation: Relation
    what: str
    refill: bool


def schema_of(name: str) -> str:
    """Return the schema in which the shadows of a schema's tables stand."""
    return f"{_PREFIX}_{name}"


def schema(relation: Relation) -> str:
    """Return the schema of a table's shadow."""
    return schema_of(relation.schema)


def table(relation: Relation) -> str:
    """Return a shadow's qualified name."""
    return f"{schema(relation)}.{relation.table}"


def prepare(connection: Connection, relations: Sequence[Relation]) -> None:
    """Make empty shadows of these tables in the open transaction; what was left of earlier ones goes.

    Raises:
        errors.Refused: the account may not make schemas in this database.
    """
    drop(connection)
    with connection.cursor() as cursor:
        try:
            for name in dict.fromkeys([_PREFIX, *(schema(one) for one in relations)]):
                cursor.execute(f"CREATE SCHEMA {name}")
        except psycopg2.errors.InsufficientPrivilege as error:
            raise errors.Refused(
                f"The account may not make a schema in this database: {' '.join(str(error).split())}.",
                hint="GRANT CREATE ON DATABASE ... TO the account",
            ) from None
        cursor.execute(f"CREATE TABLE {_PREFIX}.loaded (seq integer PRIMARY KEY, rows bigint, note jsonb)")
        for one in relations:
            cursor.execute(
                "SELECT array_to_string(reloptions, ', '), t.spcname, relpersistence FROM pg_class c "
                "LEFT JOIN pg_tablespace t ON t.oid = c.reltablespace WHERE c.oid = %s::regclass",
                (one.qualified,),
            )
            options, space, persistence = cursor.fetchone() or (None, None, "p")
            cursor.execute(
                f"CREATE {'UNLOGGED ' if persistence == 'u' else ''}TABLE {table(one)} "
                f"(LIKE {one.qualified} INCLUDING ALL EXCLUDING INDEXES EXCLUDING IDENTITY)"
                + (f" WITH ({options})" if options else "")
                + (f" TABLESPACE {space}" if space else "")
            )


def claim(cursor: Cursor, seq: int) -> Mapping[str, Any] | None:
    """Take a chunk to load it; return the note of whoever has loaded it before, None for nobody.

    To be called first in the loading transaction: a second loader waits here for the first one's end.
    """
    cursor.execute(f"INSERT INTO {_PREFIX}.loaded (seq) VALUES (%s) ON CONFLICT DO NOTHING", (seq,))
    if cursor.rowcount:
        return None
    cursor.execute(f"SELECT note FROM {_PREFIX}.loaded WHERE seq = %s", (seq,))
    row = cursor.fetchone()
    return dict(row[0]) if row is not None else None


def settle(cursor: Cursor, seq: int, rows: int, note: Mapping[str, Any]) -> None:
    """Note in the loading transaction that a chunk is loaded."""
    cursor.execute(
        f"UPDATE {_PREFIX}.loaded SET rows = %s, note = %s WHERE seq = %s", (rows, json.dumps(dict(note)), seq)
    )


def index(connection: Connection, relation: Relation) -> None:
    """Make the indexes and constraints that the live table has; those that are there already stay.

    Each in the open transaction, foreign keys last. The planner is told about the table.

    Raises:
        psycopg2.Error: the rows do not keep to one of them.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL maintenance_work_mem = '{_INDEX_MEMORY}'; SET LOCAL client_min_messages = warning")
        for name, definition in _missing_constraints(cursor, relation, "pux"):
            cursor.execute(f'ALTER TABLE {table(relation)} ADD CONSTRAINT "{name}" {definition}')
        cursor.execute(
            "SELECT c.relname, pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            "WHERE i.indrelid = %s::regclass AND NOT EXISTS "
            "(SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')) "
            "AND NOT EXISTS (SELECT FROM pg_class s JOIN pg_namespace n ON n.oid = s.relnamespace "
            "WHERE s.relname = c.relname AND n.nspname = %s) ORDER BY 1",
            (relation.qualified, schema(relation)),
        )
        for _, definition in cursor.fetchall():
            # The definition names its table once, behind the first ON.
            cursor.execute(definition.replace(f" ON {_printed(cursor, relation)} ", f" ON {table(relation)} ", 1))
        cursor.execute(f"ANALYZE {table(relation)}")


def constrain(connection: Connection, relations: Sequence[Relation]) -> None:
    """Make the foreign keys of shadows, once all of them have their indexes; between shadows where both ends are.

    Raises:
        psycopg2.Error: the rows do not keep to one of them.
    """
    shadows = {one.qualified: table(one) for one in relations}
    with connection.cursor() as cursor:
        for one in relations:
            for name, definition in _missing_constraints(cursor, one, "f"):
                cursor.execute(
                    "SELECT n.nspname || '.' || c.relname FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid "
                    "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE k.conrelid = %s::regclass AND k.conname = %s",
                    (one.qualified, name),
                )
                (referenced,) = cursor.fetchone() or ("",)
                target = shadows.get(referenced, referenced)
                head, _, tail = definition.partition(" REFERENCES ")
                definition = f"{head} REFERENCES {target}({tail.partition('(')[2]}"
                cursor.execute(f'ALTER TABLE {table(one)} ADD CONSTRAINT "{name}" {definition}')


def _missing_constraints(cursor: Cursor, relation: Relation, kinds: str) -> list[tuple[str, str]]:
    cursor.execute(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass "
        "AND contype = ANY(%s) AND conparentid = 0 AND conname NOT IN "
        "(SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass) ORDER BY contype, conname",
        (relation.qualified, list(kinds), table(relation)),
    )
    return cursor.fetchall()


def _printed(cursor: Cursor, relation: Relation) -> str:
    """Return a table's name as index definitions print it, which leave out nothing."""
    cursor.execute(
        "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s::regclass",
        (relation.qualified,),
    )
    row = cursor.fetchone()
    return str(row[0]) if row else relation.qualified


_DEPENDENTS = """
-- Views and rules of others, through their rewrite rules.
SELECT DISTINCT CASE v.relkind WHEN 'm' THEN 'materialized view ' ELSE 'view ' END || v.oid::regclass, true
  FROM pg_depend d JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
  JOIN pg_class v ON v.oid = r.ev_class
 WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = %(table)s::regclass AND v.oid <> %(table)s::regclass
UNION ALL
SELECT 'rule ' || rulename, true FROM pg_rules
 WHERE schemaname = %(schema)s AND tablename = %(name)s
UNION ALL
SELECT 'policy ' || polname, true FROM pg_policy WHERE polrelid = %(table)s::regclass
UNION ALL
SELECT 'publication ' || p.pubname, true FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
 WHERE r.prrelid = %(table)s::regclass
UNION ALL
SELECT 'partitioning or inheritance', true FROM pg_class c
 WHERE c.oid = %(table)s::regclass AND (c.relkind = 'p' OR c.relispartition OR c.relhassubclass)
UNION ALL
SELECT 'function ' || p.oid::regprocedure, true FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid
 WHERE d.classid = 'pg_proc'::regclass
   AND ((d.refclassid = 'pg_type'::regclass
         AND d.refobjid IN (SELECT t.oid FROM pg_type t WHERE t.oid = (SELECT reltype FROM pg_class
                             WHERE oid = %(table)s::regclass)
                            UNION ALL SELECT typarray FROM pg_type WHERE oid = (SELECT reltype FROM pg_class
                             WHERE oid = %(table)s::regclass)))
        OR (d.refclassid = 'pg_class'::regclass AND d.refobjid = %(table)s::regclass))
UNION ALL
SELECT 'column ' || a.attname || ' of ' || c.oid::regclass, true
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
 WHERE a.atttypid IN (SELECT reltype FROM pg_class WHERE oid = %(table)s::regclass) AND c.relkind IN ('r', 'p', 'c')
UNION ALL
-- Deleted and filled again, its rows would be missed for a moment, and cascades would act.
SELECT 'foreign key ' || conname || ' of ' || conrelid::regclass, condeferrable AND confdeltype = 'a' FROM pg_constraint
 WHERE contype = 'f' AND confrelid = %(table)s::regclass AND NOT conrelid = ANY(%(others)s::regclass[]::oid[])
"""


def dependents(connection: Connection, relations: Sequence[Relation]) -> list[Dependent]:
    """Return what hangs on these tables' identity, apart from each other."""
    found = []
    others = [one.qualified for one in relations]
    with connection.cursor() as cursor:
        for one in relations:
            values = {"table": one.qualified, "schema": one.schema, "name": one.table, "others": others}
            cursor.execute(_DEPENDENTS, values)
            found += [Dependent(relation=one, what=what, refill=refill) for what, refill in cursor.fetchall()]
    return found


def swapped(connection: Connection) -> bool:
    """Whether no shadow is left, because all are live by now."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regnamespace(%s) IS NULL", (_PREFIX,))
        row = cursor.fetchone()
    return bool(row and row[0])


def drop(connection: Connection) -> None:
    """Remove every shadow in the open transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL client_min_messages = warning")
        cursor.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname = %s OR nspname LIKE %s",
            (_PREFIX, _PREFIX.replace("_", r"\_") + r"\_%"),
        )
        for (name,) in cursor.fetchall():
            cursor.execute(f'DROP SCHEMA "{name}" CASCADE')
