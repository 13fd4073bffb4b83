"""Puts shadow tables in the place of the live ones, in one transaction of the caller's.

What belongs to a table and is not in its shadow goes over: owner, privileges, triggers, sequences, comment.
The old table is dropped in the same transaction, so there is never a moment with neither or with both.
A table that others hang on, such as views, keeps its identity and is filled anew instead; its readers wait.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg2
import psycopg2.errors
import psycopg2.extensions

from hal9mig import errors
from hal9mig.stores import shadow
from hal9mig.stores.relation import Relation

Cursor = psycopg2.extensions.cursor


def swap(cursor: Cursor, relations: Sequence[Relation], *, lock_timeout: float) -> None:
    """Make the shadows of these tables live, and remove all that is left of shadows.

    Args:
        lock_timeout: seconds to wait for each table's readers and writers.

    Raises:
        errors.WritersInFlight: somebody holds a table for longer.
        errors.Refused: the account does not own a table.
        psycopg2.Error: it failed; the caller's transaction has to roll back.
    """
    cursor.execute(
        f"SET LOCAL lock_timeout = '{int(lock_timeout * 1000)}ms'; SET LOCAL client_min_messages = warning; "
        "SET LOCAL hal9.apply = 'on'; SET CONSTRAINTS ALL DEFERRED"
    )
    refilled = {one.relation.qualified for one in shadow.dependents(cursor.connection, relations)}
    try:
        # In one order, so that two that lock several tables do not wait for each other in a circle.
        for one in sorted(relations, key=lambda one: one.qualified):
            cursor.execute(f"LOCK TABLE {one.qualified} IN ACCESS EXCLUSIVE MODE")
        _swap(cursor, relations, refilled)
    except psycopg2.errors.LockNotAvailable:
        raise errors.WritersInFlight(
            "A table that is to be replaced stays in use.",
            hint="end the transaction that holds it (pg_stat_activity, pg_locks)",
        ) from None
    except psycopg2.errors.InsufficientPrivilege as error:
        raise errors.Refused(
            f"The account may not replace a table: {' '.join(str(error).split())}.",
            hint="let it be a member of the tables' owner, with CREATE on their schema",
        ) from None
    shadow.drop(cursor.connection)


def _swap(cursor: Cursor, relations: Sequence[Relation], refilled: set[str]) -> None:
    moved = [one for one in relations if one.qualified not in refilled]
    kept = [one for one in relations if one.qualified in refilled]
    for one in reversed(kept):
        cursor.execute(f"DELETE FROM {one.qualified}")
    for one in kept:
        names = ", ".join(f'"{column.name}"' for column in one.columns)
        cursor.execute(
            f"INSERT INTO {one.qualified} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM {shadow.table(one)}"
        )
    after = [statement for one in moved for statement in _carried(cursor, one)]
    # Foreign keys between them would keep the old tables from being dropped, whatever the order; and one that
    # leads to a table which keeps its identity must not lead to its shadow.
    foreign = _foreign_keys(cursor, moved, kept)
    for one in moved:
        _drop_foreign_keys(cursor, one, moved)
    for one in moved:
        _release_sequences(cursor, one)
        cursor.execute(f"DROP TABLE {one.qualified}")
        cursor.execute(f"ALTER TABLE {shadow.table(one)} SET SCHEMA {one.schema}")
    for statement in [*after, *foreign]:
        cursor.execute(statement)


def _carried(cursor: Cursor, one: Relation) -> list[str]:
    """Return the statements that give the new table what the old one has beside its rows."""
    statements: list[str] = []
    cursor.execute(
        "SELECT quote_ident(pg_get_userbyid(relowner)), relreplident, relrowsecurity, relforcerowsecurity, "
        "quote_literal(obj_description(oid, 'pg_class')) FROM pg_class WHERE oid = %s::regclass",
        (one.qualified,),
    )
    owner, identity, secured, forced, comment = cursor.fetchone() or ("", "d", False, False, None)
    statements += _identities(cursor, one)
    statements.append(f"ALTER TABLE {one.qualified} OWNER TO {owner}")
    if identity in ("f", "n"):
        statements.append(f"ALTER TABLE {one.qualified} REPLICA IDENTITY {'FULL' if identity == 'f' else 'NOTHING'}")
    if identity == "i":
        cursor.execute(
            "SELECT quote_ident(c.relname) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            "WHERE i.indrelid = %s::regclass AND i.indisreplident",
            (one.qualified,),
        )
        statements += [
            f"ALTER TABLE {one.qualified} REPLICA IDENTITY USING INDEX {name}" for (name,) in cursor.fetchall()
        ]
    if secured:
        statements.append(f"ALTER TABLE {one.qualified} ENABLE ROW LEVEL SECURITY")
    if forced:
        statements.append(f"ALTER TABLE {one.qualified} FORCE ROW LEVEL SECURITY")
    if comment is not None:
        statements.append(f"COMMENT ON TABLE {one.qualified} IS {comment}")
    return statements + _privileges(cursor, one) + _triggers(cursor, one) + _sequences(cursor, one)


def _privileges(cursor: Cursor, one: Relation) -> list[str]:
    grant = "CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END"
    option = "CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END"
    cursor.execute(
        f"SELECT format('GRANT %%s ON {one.qualified} TO %%s%%s', privilege_type, {grant}, {option}) "
        "FROM pg_class c, aclexplode(c.relacl) WHERE c.oid = %(table)s::regclass AND grantee <> c.relowner "
        f"UNION ALL SELECT format('GRANT %%s (%%I) ON {one.qualified} TO %%s%%s', privilege_type, attname, {grant}, "
        f"{option}) FROM pg_attribute a, aclexplode(a.attacl) WHERE a.attrelid = %(table)s::regclass AND a.attnum > 0",
        {"table": one.qualified},
    )
    return [statement for (statement,) in cursor.fetchall()]


def _triggers(cursor: Cursor, one: Relation) -> list[str]:
    cursor.execute(
        "SELECT pg_get_triggerdef(oid), quote_ident(tgname), tgenabled FROM pg_trigger "
        "WHERE tgrelid = %s::regclass AND NOT tgisinternal ORDER BY tgname",
        (one.qualified,),
    )
    words = {"D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}
    statements = []
    for definition, name, enabled in cursor.fetchall():
        statements.append(definition)
        if enabled in words:
            statements.append(f"ALTER TABLE {one.qualified} {words[enabled]} TRIGGER {name}")
    return statements


def _sequences(cursor: Cursor, one: Relation) -> list[str]:
    """Return what makes sequences the new table's, which were released from the old one before it is dropped."""
    return [
        f"ALTER SEQUENCE {sequence} OWNED BY {one.qualified}.{column}"
        for sequence, column, identity in _owned(cursor, one)
        if not identity
    ]


def _release_sequences(cursor: Cursor, one: Relation) -> None:
    for sequence, _, identity in _owned(cursor, one):
        if not identity:
            cursor.execute(f"ALTER SEQUENCE {sequence} OWNED BY NONE")


def _identities(cursor: Cursor, one: Relation) -> list[str]:
    """Return what gives the new table its identity columns, which go on from where the old ones stood."""
    statements = []
    for sequence, column, identity in _owned(cursor, one):
        if not identity:
            continue
        cursor.execute(
            "SELECT s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle FROM pg_sequence s "
            "WHERE s.seqrelid = %s::regclass",
            (sequence,),
        )
        start, step, least, most, cache, cycle = cursor.fetchone() or (1, 1, 1, 2**63 - 1, 1, False)
        cursor.execute(f"SELECT last_value, is_called FROM {sequence}")
        last, called = cursor.fetchone() or (1, False)
        cursor.execute(f"SELECT {'max' if step > 0 else 'min'}({column}) FROM {shadow.table(one)}")
        (largest,) = cursor.fetchone() or (None,)
        if largest is not None and (largest - last) * step > 0:
            last, called = largest, True
        statements.append(
            f"ALTER TABLE {one.qualified} ALTER COLUMN {column} ADD GENERATED {identity} AS IDENTITY "
            f"(SEQUENCE NAME {sequence} START {start} INCREMENT {step} MINVALUE {least} MAXVALUE {most} CACHE {cache}"
            f"{' CYCLE' if cycle else ''})"
        )
        statements.append(f"SELECT setval('{sequence}', {last}, {str(called).lower()})")
    return statements


def _owned(cursor: Cursor, one: Relation) -> list[tuple[str, str, str]]:
    """Return each sequence that belongs to a column: its name, the column, and the kind of identity, if it is one."""
    cursor.execute(
        "SELECT pg_get_serial_sequence(%(table)s, attname), quote_ident(attname), "
        "CASE attidentity WHEN 'a' THEN 'ALWAYS' WHEN 'd' THEN 'BY DEFAULT' ELSE '' END FROM pg_attribute "
        "WHERE attrelid = %(table)s::regclass AND attnum > 0 AND NOT attisdropped "
        "AND pg_get_serial_sequence(%(table)s, attname) IS NOT NULL",
        {"table": one.qualified},
    )
    return cursor.fetchall()


def _foreign_keys(cursor: Cursor, moved: Sequence[Relation], kept: Sequence[Relation]) -> list[str]:
    """Return what leads the new tables' foreign keys to tables that are refilled, and these to the new ones."""
    statements = []
    for one in moved:
        for other in kept:
            cursor.execute(
                "SELECT quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f' "
                "AND conrelid = to_regclass(%s) AND confrelid = to_regclass(%s)",
                (one.qualified, other.qualified),
            )
            for name, definition in cursor.fetchall():
                cursor.execute(f"ALTER TABLE {shadow.table(one)} DROP CONSTRAINT IF EXISTS {name}")
                statements.append(f"ALTER TABLE {one.qualified} ADD CONSTRAINT {name} {definition}")
            cursor.execute(
                "SELECT quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f' "
                "AND conrelid = to_regclass(%s) AND confrelid = to_regclass(%s)",
                (other.qualified, one.qualified),
            )
            for name, definition in cursor.fetchall():
                cursor.execute(f"ALTER TABLE {other.qualified} DROP CONSTRAINT {name}")
                statements.append(f"ALTER TABLE {other.qualified} ADD CONSTRAINT {name} {definition}")
    return statements


def _drop_foreign_keys(cursor: Cursor, one: Relation, moved: Sequence[Relation]) -> None:
    cursor.execute(
        "SELECT conrelid::regclass::text, quote_ident(conname) FROM pg_constraint WHERE contype = 'f' "
        "AND confrelid = %s::regclass AND conrelid = ANY(%s::regclass[]::oid[])",
        (one.qualified, [other.qualified for other in moved]),
    )
    for table, name in cursor.fetchall():
        cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")
