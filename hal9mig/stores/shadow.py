"""Shadow tables: restored beside the live ones, in schemas of their own, until they are swapped in.

A shadow has the live table's name in the schema ``hal9_shadow_<schema>``, so its indexes and constraints
have the live ones' names from the start, and moving it into the live schema is all that a swap takes.
Nothing of a shadow can be noticed before that: it has no foreign key to a table that is in use, nor
triggers or privileges. Those come with the swap.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg2
import psycopg2.errors
import psycopg2.extensions

from hal9mig import errors
from hal9mig.categories import identifiers
from hal9mig.stores import foreign_keys
from hal9mig.stores.connection import Connection, Cursor
from hal9mig.stores.relation import Relation, spelled_out
from hal9mig.stores.table_dependents import require_rights

_PREFIX = "hal9_shadow"
#: Memory of a session that makes indexes.
_INDEX_MEMORY = "256MB"


def schema_of(name: str) -> str:
    """Return the schema in which the shadows of a schema's tables stand."""
    return identifiers.derived(_PREFIX, name)


def schema(relation: Relation) -> str:
    """Return the schema of a table's shadow."""
    return schema_of(relation.schema)


def table(relation: Relation) -> str:
    """Return a shadow's qualified name."""
    return identifiers.qualified(schema(relation), relation.table)


def prepare(connection: Connection, relations: Sequence[Relation], *, mark: str = "") -> None:
    """Make empty shadows of these tables in the open transaction; what was left of earlier ones goes.

    Args:
        mark: whose shadows these are; who brings another to ``claim``, ``index`` or ``constrain`` comes too late.

    Raises:
        errors.Refused: the account may not make schemas in this database, or not replace one of the tables.
    """
    require_rights(connection, relations)
    drop(connection)
    with connection.cursor() as cursor, _refusing("make shadow tables"):
        for name in dict.fromkeys([_PREFIX, *(schema(one) for one in relations)]):
            cursor.execute(f"CREATE SCHEMA {name}")
        cursor.execute(
            f"CREATE TABLE {_PREFIX}.loaded (seq integer PRIMARY KEY, rows bigint, note jsonb); "
            f"CREATE TABLE {_PREFIX}.restore (mark text NOT NULL); INSERT INTO {_PREFIX}.restore VALUES (%s)",
            (mark,),
        )
        for one in relations:
            _create(cursor, one)


def _create(cursor: Cursor, one: Relation) -> None:
    cursor.execute(
        "SELECT array_to_string(c.reloptions || ARRAY(SELECT 'toast.' || o FROM unnest(x.reloptions) o), ', '), "
        "quote_ident(s.spcname), quote_ident(a.amname) FROM pg_class c LEFT JOIN pg_class x ON x.oid = c.reltoastrelid "
        "LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace LEFT JOIN pg_am a ON a.oid = c.relam "
        "WHERE c.oid = %s::regclass",
        (one.qualified,),
    )
    options, space, method = cursor.fetchone() or (None, None, None)
    # Whatever the account's own defaults are; and logged in any case: an unlogged shadow would be empty
    # after a crash of the server, while the book of what is loaded says it is not.
    cursor.execute("SET LOCAL default_tablespace = ''")
    cursor.execute(
        f"CREATE TABLE {table(one)} (LIKE {one.qualified} INCLUDING ALL "
        "EXCLUDING INDEXES EXCLUDING IDENTITY EXCLUDING STATISTICS)"
        + (f" USING {method}" if method else "")
        + (f" WITH ({options})" if options else "")
        + (f" TABLESPACE {space}" if space else "")
    )
    # Or it comes in the middle of the load, and each index, and the swap, waits until the server ends it for them.
    cursor.execute(f"ALTER TABLE {table(one)} SET (autovacuum_enabled = off, toast.autovacuum_enabled = off)")
    # What rows may break today they may break in the shadow, too: it is made again once they are there.
    cursor.execute(
        "SELECT format('ALTER TABLE %%s DROP CONSTRAINT IF EXISTS %%I', %(shadow)s, conname) FROM pg_constraint "
        "WHERE conrelid = %(live)s::regclass AND contype IN ('c', 'n') AND NOT convalidated "
        "UNION ALL SELECT format('ALTER TABLE %%s ALTER COLUMN %%I SET STATISTICS %%s', %(shadow)s, attname, "
        "attstattarget) FROM pg_attribute WHERE attrelid = %(live)s::regclass AND attnum > 0 AND attstattarget >= 0 "
        "AND NOT attisdropped "
        "UNION ALL SELECT format('ALTER TABLE %%s ALTER COLUMN %%I SET (%%s)', %(shadow)s, attname, "
        "array_to_string(attoptions, ', ')) FROM pg_attribute WHERE attrelid = %(live)s::regclass AND attnum > 0 "
        "AND attoptions IS NOT NULL AND NOT attisdropped",
        {"live": one.qualified, "shadow": table(one)},
    )
    for (statement,) in cursor.fetchall():
        cursor.execute(statement)


def vacuumed(cursor: Cursor, one: Relation) -> str:
    """Return the statement that has a shadow vacuumed as the live table is; before that it is not."""
    cursor.execute(
        "SELECT format('ALTER TABLE %%s RESET (autovacuum_enabled, toast.autovacuum_enabled)', %(shadow)s) "
        "|| coalesce((SELECT format('; ALTER TABLE %%s SET (%%s)', %(shadow)s, string_agg(f.option, ', ')) FROM ("
        "SELECT o FROM unnest(c.reloptions) o UNION ALL SELECT 'toast.' || o FROM unnest(x.reloptions) o) f(option) "
        "WHERE f.option ~ '^(toast[.])?autovacuum_enabled=' HAVING count(*) > 0), '') "
        "FROM pg_class c LEFT JOIN pg_class x ON x.oid = c.reltoastrelid WHERE c.oid = %(live)s::regclass",
        {"live": one.qualified, "shadow": table(one)},
    )
    (statement,) = cursor.fetchone() or ("",)
    return str(statement)


@contextlib.contextmanager
def _refusing(what: str) -> Iterator[None]:
    try:
        yield
    except psycopg2.errors.InsufficientPrivilege as error:
        raise errors.Refused(
            f"The account may not {what}: {' '.join(str(error).split())}.",
            hint="GRANT CREATE ON DATABASE ... TO the account, and let it be a member of the tables' owner",
        ) from None


def require(cursor: Cursor, mark: str) -> None:
    """Raise unless the shadows are this restore's; until the transaction ends they cannot be dropped.

    Raises:
        errors.LeaseLost: they are another's, or gone.
    """
    try:
        cursor.execute(f"SELECT FROM {_PREFIX}.restore WHERE mark = %s FOR KEY SHARE", (mark,))
        found = cursor.fetchone() is not None
    except (psycopg2.errors.UndefinedTable, psycopg2.errors.InvalidSchemaName):
        found = False
    if not found:
        raise errors.LeaseLost("The shadow tables are another restore's by now, so nothing was written.")


def claim(cursor: Cursor, seq: int, *, mark: str = "") -> Mapping[str, Any] | None:
    """Take a chunk to load it; return the note of whoever has loaded it before, None for nobody.

    To be called first in the loading transaction: a second loader waits here for the first one's end.

    Raises:
        errors.LeaseLost: the shadows are another restore's, or gone.
    """
    require(cursor, mark)
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


def index(connection: Connection, relation: Relation, *, mark: str = "") -> None:
    """Make the indexes and constraints that the live table has; those that are there already stay.

    All in the open transaction, without foreign keys. The planner is told about the table.

    Raises:
        errors.LeaseLost: the shadows are another restore's, or gone.
        psycopg2.Error: the rows do not keep to one of them.
    """
    with connection.cursor() as cursor, _refusing("make an index"):
        require(cursor, mark)
        cursor.execute(f"SET LOCAL maintenance_work_mem = '{_INDEX_MEMORY}'; SET LOCAL client_min_messages = warning")
        for space, statement in _missing(cursor, relation):
            cursor.execute("SELECT set_config('default_tablespace', %s, true)", (space,))
            cursor.execute(statement)
        cursor.execute(f"ANALYZE {table(relation)}")


# Each with the tablespace it is to lie in. A constraint's own index comes with it; a table's constraints
# are printed without their index's options, so these are put in where the grammar has them. An index
# that is not valid, because it could not be made, is left out.
_MISSING = """
WITH made (name) AS (
     SELECT conname::text FROM pg_constraint WHERE conrelid = %(shadow)s::regclass
     UNION ALL SELECT relname::text FROM pg_class WHERE relnamespace = %(schema)s::regnamespace
), indexes AS (
     SELECT i.*, c.relname, c.relkind, c.reloptions, k.conname, k.contype, k.oid AS conoid,
            coalesce(s.spcname, '') AS spcname,
            concat(CASE WHEN k.condeferrable THEN ' DEFERRABLE' END,
                   CASE WHEN k.condeferred THEN ' INITIALLY DEFERRED' END) AS timing
       FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
       LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace
       LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid
             AND k.contype IN ('p', 'u', 'x')
      WHERE i.indrelid = %(live)s::regclass AND i.indisvalid
)
SELECT spcname, CASE
       WHEN conname IS NULL THEN replace(replace(pg_get_indexdef(indexrelid),
            format(' ON ONLY %%s USING ', %(live)s::regclass), format(' ON %%s USING ', %(live)s::regclass)),
            format(' ON %%s USING ', %(live)s::regclass), format(' ON %%s USING ', %(shadow)s))
       WHEN contype = 'x' OR reloptions IS NULL
       THEN format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', %(shadow)s, conname, pg_get_constraintdef(conoid))
       ELSE format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s WITH (%%s)%%s', %(shadow)s, conname,
            left(pg_get_constraintdef(conoid), length(pg_get_constraintdef(conoid)) - length(timing)),
            array_to_string(reloptions, ', '), timing) END
  FROM indexes WHERE relname NOT IN (SELECT name FROM made)
UNION ALL
SELECT '', format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', %(shadow)s, conname, pg_get_constraintdef(oid))
  FROM pg_constraint WHERE conrelid = %(live)s::regclass AND contype IN ('c', 'n') AND NOT convalidated
   AND conname NOT IN (SELECT name FROM made)
UNION ALL
SELECT '', format('ALTER INDEX %%s.%%I ALTER COLUMN %%s SET STATISTICS %%s', %(schema)s, relname, attnum,
       attstattarget) FROM indexes JOIN pg_attribute ON attrelid = indexrelid WHERE attstattarget >= 0
UNION ALL
SELECT '', format('ALTER TABLE %%s CLUSTER ON %%I', %(shadow)s, relname) FROM indexes WHERE indisclustered
UNION ALL
SELECT '', regexp_replace(regexp_replace(pg_get_statisticsobjdef(oid), '^CREATE STATISTICS .*? (?=ON|\\()',
       format('CREATE STATISTICS %%s.%%I ', %(schema)s, stxname)), ' FROM [^ ]+$', ' FROM ' || %(shadow)s)
  FROM pg_statistic_ext WHERE stxrelid = %(live)s::regclass AND NOT EXISTS (SELECT FROM pg_statistic_ext o
       WHERE o.stxname = pg_statistic_ext.stxname AND o.stxnamespace = %(schema)s::regnamespace)
"""


def _missing(cursor: Cursor, relation: Relation) -> list[tuple[str, str]]:
    values = {"live": relation.qualified, "shadow": table(relation), "schema": schema(relation)}
    with spelled_out(cursor):
        cursor.execute(_MISSING, values)
        return cursor.fetchall()


def constrain(connection: Connection, relations: Sequence[Relation], *, mark: str = "") -> None:
    """Make the foreign keys between shadows, once all of them have their indexes.

    Those that lead to other tables, or come from there, are made by the swap: before it, the application
    would run into them. Whether they will hold as things stand is asked here.

    Raises:
        errors.LeaseLost: the shadows are another restore's, or gone.
        errors.Refused: rows of other tables, or these tables' rows, would lose what they refer to.
        psycopg2.Error: the rows do not keep to one of them.
    """
    shadows = {one.qualified: table(one) for one in relations}
    with connection.cursor() as cursor, _refusing("make a foreign key"):
        require(cursor, mark)
        found = foreign_keys.keys(cursor, relations)
        for key in found:
            between = key.table in shadows and key.leads_to in shadows
            if between and not foreign_keys.made(cursor, key, shadows[key.table]):
                cursor.execute(key.added_to(shadows[key.table], shadows[key.leads_to]))
        foreign_keys.require_kept(cursor, found, shadows)


def swapped(connection: Connection) -> bool:
    """Whether no shadow is left, because all are live by now."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regnamespace(%s) IS NULL", (_PREFIX,))
        return cursor.fetchone() == (True,)


def standing(connection: Connection) -> list[str]:
    """Return the schemas of shadows that are there, in quotes where they need them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname = %s OR nspname LIKE %s ORDER BY 1",
            (_PREFIX, _PREFIX.replace("_", r"\_") + r"\_%"),
        )
        return [name for (name,) in cursor.fetchall()]


def drop(connection: Connection) -> None:
    """Remove every shadow in the open transaction."""
    with connection.cursor() as cursor, _refusing("remove shadow tables"):
        cursor.execute("SET LOCAL client_min_messages = warning")
        for name in standing(connection):
            cursor.execute(f"DROP SCHEMA {name} CASCADE")
