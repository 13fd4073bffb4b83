"""Puts shadow tables in the place of the live ones, in one transaction of the caller's.

The old table is dropped in the same transaction, so there is never a moment with neither or with both.
A table on whose identity something hangs, such as a view, keeps it and is filled anew; its readers wait.

As with every change of a table's definition, a transaction that reads all under one snapshot (REPEATABLE
READ) and has not touched a table yet keeps nobody from replacing it. If its snapshot is older than what was
loaded, it does not find the new rows there either; so it does not begin before a restore and go on after it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

import psycopg2
import psycopg2.errors
import psycopg2.extensions

from hal9mig import errors
from hal9mig.categories import identifiers
from hal9mig.stores import (
    capture,
    foreign_keys,
    lock_holders,
    refill,
    sequences,
    shadow,
    table_attributes,
    table_dependents,
)
from hal9mig.stores.connection import Cursor
from hal9mig.stores.foreign_keys import ForeignKey
from hal9mig.stores.relation import Relation

#: Seconds between two tries for the locks, so that those who wait behind the first get on.
_PAUSE = 0.1


def swap(cursor: Cursor, relations: Sequence[Relation], *, lock_timeout: float) -> None:
    """Make the shadows of these tables live, and remove all that is left of shadows.

    Args:
        lock_timeout: seconds to try for the tables, whose readers and writers have to let go of them.

    Raises:
        errors.WritersInFlight: somebody holds a table for longer; the sessions are named.
        errors.Refused: the account may not, or rows of other tables would lose what they refer to.
        psycopg2.Error: it failed; the caller's transaction has to roll back.
    """
    cursor.execute(f"{capture.APPLY}; SET LOCAL client_min_messages = warning; SET LOCAL row_security = off")
    with _explaining():
        _lock(cursor, _locked(cursor, relations), patience=lock_timeout)
        # Asked under the locks: nothing can come to hang on a table any more.
        hanging = table_dependents.dependents(cursor.connection, relations)
        stuck = [one for one in hanging if not one.refill]
        if stuck:
            raise errors.Refused(f"{stuck[0].relation.qualified} cannot be replaced, because of {stuck[0].what}.")
        kept = {one.relation.qualified for one in hanging}
        _swap(cursor, relations, kept)
        shadow.drop(cursor.connection)


@contextlib.contextmanager
def _explaining() -> Iterator[None]:
    try:
        yield
    except (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected) as error:
        raise errors.WritersInFlight(
            f"A table that is to be replaced, or that one refers to, stays in use: {' '.join(str(error).split())}."
        ) from None
    except psycopg2.errors.InsufficientPrivilege as error:
        raise errors.Refused(
            f"The account may not replace a table: {' '.join(str(error).split())}.",
            hint="let it be a member of the tables' owner",
        ) from None
    except psycopg2.errors.ForeignKeyViolation as error:
        raise errors.Refused(
            f"Rows would lose what they refer to: {' '.join(str(error).split())}.",
            hint="change those rows, or drop the foreign key for the time of the restore",
        ) from None


def _locked(cursor: Cursor, relations: Sequence[Relation]) -> list[str]:
    """Return the tables to lock: the shadows, the live ones, and those that they refer to.

    These last because a foreign key that goes, or comes, takes its triggers on the other table with it.
    """
    inside = sorted(one.qualified for one in relations)
    tables = [shadow.table(one) for one in relations] + inside
    for name in sorted({key.leads_to for key in foreign_keys.keys(cursor, relations)}.difference(inside)):
        # Who may refer to a table may not lock it by that alone; then the foreign key's own lock has to do.
        cursor.execute("SELECT has_table_privilege(%s, 'UPDATE, DELETE, TRUNCATE')", (name,))
        if cursor.fetchone() == (True,):
            tables.append(name)
    return tables


def _lock(cursor: Cursor, tables: Sequence[str], *, patience: float) -> None:
    """Take all locks, or none and try again: who waits for one must not wait for us until it is called a deadlock.

    Then the server would end one of the two, and that may be the application's transaction.
    """
    cursor.execute("SELECT setting::float8 / 1000 FROM pg_settings WHERE name = 'deadlock_timeout'")
    (deadlock,) = cursor.fetchone() or (1.0,)
    deadline = time.monotonic() + patience
    # First what only keeps vacuum out, and disturbs no reader or writer: the server ends an autovacuum for
    # whoever waits longer than it takes to look for a deadlock, and so not for the tries after that.
    taken = _try(cursor, tables, "SHARE UPDATE EXCLUSIVE", deadline)
    while taken and not _try(cursor, tables, "ACCESS EXCLUSIVE", min(deadline, time.monotonic() + deadlock / 2)):
        taken = time.monotonic() < deadline
        time.sleep(_PAUSE)
    if not taken:
        held = "; ".join(map(str, lock_holders.of_tables(cursor, tables)))
        raise errors.WritersInFlight(
            f"A table that is to be replaced stays in use: {held or 'it has been let go just now; try again'}."
        )
    cursor.execute(f"SET LOCAL lock_timeout = '{max(1, round(patience * 1000))}ms'; SET CONSTRAINTS ALL DEFERRED")


def _try(cursor: Cursor, tables: Sequence[str], how: str, deadline: float) -> bool:
    """Take all locks by a moment, or none."""
    cursor.execute("SAVEPOINT hal9_locks")
    try:
        for name in tables:
            left = max(1, round((deadline - time.monotonic()) * 1000))
            cursor.execute(f"SET LOCAL lock_timeout = '{left}ms'; LOCK TABLE {name} IN {how} MODE")
        cursor.execute("RELEASE SAVEPOINT hal9_locks")
        return True
    except (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected):
        cursor.execute("ROLLBACK TO SAVEPOINT hal9_locks")
        return False


def _swap(cursor: Cursor, relations: Sequence[Relation], kept: set[str]) -> None:
    moved = [one for one in relations if one.qualified not in kept]
    filled = [one for one in relations if one.qualified in kept]
    inside = {one.qualified: shadow.table(one) for one in relations}
    keys = foreign_keys.keys(cursor, relations)
    foreign_keys.require_kept(cursor, [key for key in keys if key.leads_to in inside], inside)
    again = _unlinked(cursor, keys, inside, kept)
    referenced = {key.leads_to for key in keys if key.table not in inside}
    after = []
    for one in filled:
        after += refill.refill(cursor, one, shadow=shadow.table(one), referenced=one.qualified in referenced)
    # Now, because a table with checks that wait for the end of the transaction cannot be altered.
    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    after += [
        statement
        for one in moved
        for statement in table_attributes.carried(cursor, one, shadow=shadow.table(one), schema=shadow.schema(one))
    ]
    replaced = {one.qualified: _oid(cursor, one.qualified) for one in moved}
    _move(cursor, moved)
    for name, oid in replaced.items():
        # What took its place has its triggers too; any other table under a captured one's name would be told.
        cursor.execute("UPDATE hal9cap.captured SET relation = %s WHERE relation = %s", (_oid(cursor, name), oid))
    for statement in [*after, *again]:
        cursor.execute(statement)
    for one in relations:
        sequences.past(cursor, one.qualified)


def _oid(cursor: Cursor, table: str) -> int:
    cursor.execute("SELECT %s::regclass::oid", (table,))
    (oid,) = cursor.fetchone() or (0,)
    return int(oid)


def _unlinked(cursor: Cursor, keys: Sequence[ForeignKey], inside: dict[str, str], kept: set[str]) -> list[str]:
    """Drop the foreign keys that cannot go over as they are; return the statements that make them again.

    Those between tables that are replaced have their like between the shadows.
    """
    again = []
    for key in keys:
        if key.table not in inside or (key.table in kept and key.leads_to not in inside):
            continue
        moved = key.table not in kept and key.leads_to in inside and key.leads_to not in kept
        if moved and foreign_keys.made(cursor, key, inside[key.table]):
            continue
        if key.leads_to in inside:
            # Rows that are refilled come and go in any order.
            cursor.execute(key.dropped_from(key.table))
        # A shadow's leads to another shadow, which is dropped.
        cursor.execute(key.dropped_from(inside[key.table]))
        again.append(key.added_to(key.table, key.leads_to))
    return again


def _move(cursor: Cursor, moved: Sequence[Relation]) -> None:
    if not moved:
        return
    for one in reversed(moved):
        cursor.execute("SELECT relpersistence = 'u' FROM pg_class WHERE oid = %s::regclass", (one.qualified,))
        if cursor.fetchone() == (True,):
            cursor.execute(f"ALTER TABLE {shadow.table(one)} SET UNLOGGED")
    for one in moved:
        cursor.execute(shadow.vacuumed(cursor, one))
        for statement in table_attributes.released(cursor, one):
            cursor.execute(statement)
    # At once, so that they may hang on each other.
    cursor.execute(f"DROP TABLE {', '.join(one.qualified for one in moved)}")
    for one in moved:
        cursor.execute(f"ALTER TABLE {shadow.table(one)} SET SCHEMA {identifiers.schema(one.schema)}")
