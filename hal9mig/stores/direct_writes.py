"""Writes to the hierarchical store while it follows that are not this system's: noted, so that a round looks at them.

Once it has ruled, its capturing triggers refuse such writes, and stay when the flat store rules again. Before that
nobody is refused, and each row that is written is noted with its record's key. What is noted is a hint: it says where
to look, and the comparison says what is so. A trigger of rows, because its condition is tested before anything is
called and this system's own rows cost no more than that; transition tables would be filled for them too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hal9mig import model
from hal9mig.categories import identifiers
from hal9mig.categories.declaration import Category, Target
from hal9mig.stores import projection
from hal9mig.stores.connection import Connection, Cursor

TRIGGER = "hal9cap_direct"
#: Rows that are read for each key that is asked for: a record has several, and each was noted.
_ROWS_A_KEY = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noted:
    """Keys that were written directly, each once, and the ids of what says so."""

    keys: Sequence[model.Key]
    ids: Sequence[int]


def unwatched(connection: Connection, category: Category) -> list[Target]:
    """Return the hierarchical tables on which a direct write is neither noted nor refused."""
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgrelid FROM pg_trigger WHERE tgname = ANY(%s) AND tgenabled = 'A'", ([TRIGGER, "hal9cap_insert"],)
        )
        watched = {row[0] for row in cursor.fetchall()}
        return [one for one in category.owned if _oid(cursor, one) not in {None, *watched}]


def watch(connection: Connection, category: Category, target: Target, *, patience: float) -> None:
    """Have direct writes to a table noted from now on.

    Args:
        patience: seconds to wait for the table's lock; its writers wait behind it for as long.

    Raises:
        psycopg2.errors.LockNotAvailable: it is in use for longer.
    """
    function = f"hal9cap.{identifiers.derived('direct', target.schema, target.table)}"
    key = f"'{category.slug}', ARRAY[{projection.texts(category, target.owner, 's')}]"
    changed = " OR ".join(
        f"{identifiers.quoted(name, 'OLD')} IS DISTINCT FROM {identifiers.quoted(name, 'NEW')}" for name in target.owner
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{round(patience * 1000)}ms'")
        cursor.execute(f"""
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO'
AS $direct$
BEGIN
    -- In the modes in which this store does not follow, nobody looks.
    IF pg_sequence_last_value('hal9cap.state') % 4 = 1 THEN
        IF TG_OP <> 'DELETE' THEN
            INSERT INTO hal9cap.direct_writes (category, key) SELECT {key} FROM (SELECT NEW.*) AS s;
        END IF;
        IF TG_OP = 'DELETE' OR TG_OP = 'UPDATE' AND ({changed}) THEN
            INSERT INTO hal9cap.direct_writes (category, key) SELECT {key} FROM (SELECT OLD.*) AS s;
        END IF;
    END IF;
    RETURN NULL;
END
$direct$""")
        cursor.execute(
            f"CREATE OR REPLACE TRIGGER {TRIGGER} AFTER INSERT OR UPDATE OR DELETE ON {target.qualified} FOR EACH ROW "
            f"WHEN (coalesce(current_setting('hal9.apply', true), '') = '') EXECUTE FUNCTION {function}()"
        )
        # For writers with session_replication_role = replica too: these are who writes past everything.
        cursor.execute(f"ALTER TABLE {target.qualified} ENABLE ALWAYS TRIGGER {TRIGGER}")


def leave(cursor: Cursor, table: str) -> None:
    """Note nothing more of a table, in the open transaction; disabled, as dropping would wait for readers too."""
    cursor.execute("SELECT FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND tgname = %s", (table, TRIGGER))
    if cursor.rowcount:
        cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER {TRIGGER}")


def noted(connection: Connection, category: str, *, limit: int) -> Noted:
    """Return the keys of a category that were written directly, oldest first, about ``limit`` at most."""
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT key, array_agg(id) FROM (SELECT id, key FROM hal9cap.direct_writes WHERE category = %s "
            "ORDER BY id LIMIT %s) d GROUP BY key ORDER BY min(id) LIMIT %s",
            (category, limit * _ROWS_A_KEY, limit),
        )
        found = cursor.fetchall()
    # A part that belongs to nobody is no record's, and is found as an orphan.
    keys = [tuple(key) for key, _ in found if None not in key]
    return Noted(keys=keys, ids=[number for _, ids in found for number in ids])


def forget(connection: Connection, looked_at: Noted) -> None:
    """Delete what was looked at."""
    with connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM hal9cap.direct_writes WHERE id = ANY(%s::bigint[])", (list(looked_at.ids),))


def _oid(cursor: Cursor, target: Target) -> int | None:
    cursor.execute("SELECT to_regclass(%s)::oid", (target.qualified,))
    (found,) = cursor.fetchone() or (None,)
    return None if found is None else int(found)
