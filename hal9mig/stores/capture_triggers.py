"""The triggers that capture writes: which tables get them, what they do, and whether they all still stand.

They run after each statement over its transition tables, so that a statement on many rows costs one
journal statement. What an update made of a key's old value is told by a trigger of rows, whose condition the
server tests before anything is called, and which is not even asked where a statement does not name a key column; unless
a trigger of the application's own may change the row before. Where a row may move between the tables of a family that
trigger would not fire, and the update's own one reads the old rows too.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

from hal9mig import model
from hal9mig.categories import identifiers, wire
from hal9mig.categories.declaration import Category, Source, Target
from hal9mig.stores import direct_writes, projection
from hal9mig.stores.connection import Connection, Cursor

_NEW = "REFERENCING NEW TABLE AS new_rows"
_OLD = "REFERENCING OLD TABLE AS old_rows"
_BOTH = "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows"

_ALONE = ("hal9cap_insert", "hal9cap_update", "hal9cap_key", "hal9cap_delete", "hal9cap_truncate")
_FAMILY = ("hal9cap_insert", "hal9cap_update", "hal9cap_delete", "hal9cap_truncate")
#: What the update's trigger of a family is called with.
_MOVING = "moving"
#: What ``pg_trigger.tgenabled`` says of a trigger that not every session fires.
_FIRES = {"D": "disabled", "O": "not fired for replicas", "R": "fired for replicas only"}
_ADMIT = (
    (pathlib.Path(__file__).parent / "migrations" / "capture" / "versions" / "0005_pass.sql")
    .read_text(encoding="utf-8").split("$$")[1]
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """A captured table, or a partition or child of one; a foreign one takes no capturing triggers."""

    oid: int
    name: str
    foreign: bool


@dataclasses.dataclass(frozen=True)
class _Captured:
    """A table whose writes are captured: the columns that hold the record's key, and the function that notes it.

    Attributes:
        several: whether several of its rows may be one record's.
    """

    table: str
    key: tuple[str, ...]
    function: str
    several: bool


def _captured(category: Category, side: model.StoreName) -> list[_Captured]:
    found: list[tuple[Source | Target, tuple[str, ...]]]
    if side is model.StoreName.FLAT:
        found = [(category.source, category.source.key)]
    else:
        found = [(target, target.owner) for target in category.owned]
    return [
        _Captured(
            one.qualified, key, f"hal9cap.{identifiers.derived('capture', one.schema, one.table)}",
            several=not set(one.key) <= set(key),
        )
        for one, key in found
    ]  # fmt: skip


def tables(category: Category, side: model.StoreName) -> list[str]:
    """Return the tables of a category that are captured on one side."""
    return [captured.table for captured in _captured(category, side)]


def install(
    connection: Connection, category: Category, side: model.StoreName, *, patience: float | None = None
) -> None:
    """Create the capturing triggers of a category's tables on one side; those that are there are replaced.

    A statement on a partition or a child fires that table's own triggers only, so each gets them.

    Args:
        patience: seconds that each table's lock is waited for; None is as long as the session does.

    Raises:
        psycopg2.errors.LockNotAvailable: a table is in use for longer.
    """
    for captured in _captured(category, side):
        with connection, connection.cursor() as cursor:
            cursor.execute(_function(category, side, captured))
            family = members(cursor, captured.table)
            # What is captured is either the application's own write or refused.
            direct_writes.leave(cursor, captured.table)
        # Each table in a transaction of its own: holding one table's lock while waiting for the next would
        # stop the application for both.
        for member in family:
            if not member.foreign:
                with connection, connection.cursor() as cursor:
                    if patience is not None:
                        cursor.execute(f"SET LOCAL lock_timeout = '{round(patience * 1000)}ms'")
                    _attach(cursor, member, captured, alone=len(family) == 1)
        with connection, connection.cursor() as cursor:
            # What was found above and no more: one that came in between has no triggers yet, and has to be told.
            cursor.execute(
                "DELETE FROM hal9cap.captured WHERE category = %s AND declared = %s", (category.slug, captured.table)
            )
            cursor.execute(
                "INSERT INTO hal9cap.captured (category, declared, relation) SELECT %s, %s, unnest(%s::oid[])",
                (category.slug, captured.table, [member.oid for member in family]),
            )


def _triggers(captured: _Captured, *, alone: bool, named: bool) -> dict[str, str]:
    """Return the triggers of a table, without its name: when each fires, and what it calls with what.

    Args:
        named: whether a key changes only where the statement names one of its columns.
    """
    keys = f" OF {', '.join(map(identifiers.quoted, captured.key))}" if named else ""
    changed = " OR ".join(
        f"{identifiers.quoted(name, 'OLD')} IS DISTINCT FROM {identifiers.quoted(name, 'NEW')}" for name in captured.key
    )
    bodies = {
        "hal9cap_insert": ("AFTER INSERT", f"{_NEW} FOR EACH STATEMENT", ""),
        "hal9cap_update": (
            "AFTER UPDATE", f"{_NEW if alone else _BOTH} FOR EACH STATEMENT", "" if alone else f"'{_MOVING}'"
        ),
        "hal9cap_key": (f"AFTER UPDATE{keys}", f"FOR EACH ROW WHEN ({changed})", ""),
        "hal9cap_delete": ("AFTER DELETE", f"{_OLD} FOR EACH STATEMENT", ""),
        "hal9cap_truncate": ("BEFORE TRUNCATE", "FOR EACH STATEMENT", ""),
    }  # fmt: skip
    return {
        name: f"CREATE OR REPLACE TRIGGER {name} {event} ON {{}} {how} EXECUTE FUNCTION {captured.function}({argument})"
        for name, (event, how, argument) in bodies.items()
        if name in _expected(alone)
    }


def _changing(cursor: Cursor, member: Member) -> list[str]:
    """Return the application's triggers that may change a row of a table before it is updated."""
    cursor.execute(
        # Of rows, before, on update; see the server's pg_trigger.h.
        "SELECT tgname FROM pg_trigger WHERE tgrelid = %s AND tgtype & (1 | 2 | 16) = (1 | 2 | 16) ORDER BY 1",
        (member.oid,),
    )
    return [name for (name,) in cursor.fetchall()]


def _expected(alone: bool) -> tuple[str, ...]:
    return _ALONE if alone else _FAMILY


def _attach(cursor: Cursor, member: Member, captured: _Captured, *, alone: bool) -> None:
    for name in _expected(alone):
        # The first one has locked the table by then: no trigger comes between this look and the commit.
        named = name == "hal9cap_key" and not _changing(cursor, member)
        cursor.execute(_triggers(captured, alone=alone, named=named)[name].format(member.name))
        # For writers with session_replication_role = replica too, whose writes are as real as others'.
        cursor.execute(f"ALTER TABLE ONLY {member.name} ENABLE ALWAYS TRIGGER {name}")
    if not alone:
        cursor.execute(f"DROP TRIGGER IF EXISTS hal9cap_key ON {member.name}")


def members(cursor: Cursor, table: str) -> list[Member]:
    """Return a table with its partitions and children of every depth; empty when there is no such table."""
    cursor.execute(
        "WITH RECURSIVE family(oid) AS ("
        " SELECT to_regclass(%s)::oid UNION SELECT inhrelid FROM pg_inherits JOIN family ON inhparent = family.oid) "
        "SELECT c.oid, format('%%I.%%I', n.nspname, c.relname), c.relkind = 'f' FROM family "
        "JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY 1",
        (table,),
    )
    return [Member(oid=oid, name=name, foreign=foreign) for oid, name, foreign in cursor.fetchall()]


def removal(connection: Connection, category: Category, side: model.StoreName) -> list[str]:
    """Return the statements that take capture off a category's tables on one side, each for a transaction of its own.

    They may be run again: what is gone already is passed over.
    """
    found = []
    with connection, connection.cursor() as cursor:
        for captured in _captured(category, side):
            # A partition's cannot be dropped by itself.
            found.append(f"DROP TRIGGER IF EXISTS {direct_writes.TRIGGER} ON {captured.table}")
            for member in members(cursor, captured.table):
                found += [f"DROP TRIGGER IF EXISTS {name} ON {member.name}" for name in _ALONE if not member.foreign]
    return found


def uninstall(connection: Connection, category: Category, side: model.StoreName) -> None:
    """Drop the capturing triggers of a category's tables on one side."""
    for statement in removal(connection, category, side):
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
    with connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM hal9cap.captured WHERE category = %s", (category.slug,))


def _definitions(category: Category, side: model.StoreName) -> dict[str, tuple[str, str]]:
    """Return for each captured table its function's name and the text it has to have."""
    return {
        captured.table: (captured.function, _function(category, side, captured).split("$capture$")[1])
        for captured in _captured(category, side)
    }


def _function(category: Category, side: model.StoreName, captured: _Captured) -> str:
    flat = side is model.StoreName.FLAT
    key = f"'{category.slug}', ARRAY[{projection.texts(category, captured.key)}]"
    each = f"INSERT INTO hal9cap.journal (category, key) SELECT {key} FROM"
    once = f"INSERT INTO hal9cap.journal (category, key) SELECT DISTINCT {key} FROM"
    journal = once if captured.several else each
    # The text of a key that is a time would depend on who writes; setting the zone costs, so only then.
    times = any(
        wire.canonical_type(column.type).startswith(("timestamp", "date")) for column in category.source.key_columns
    )
    zone = " SET timezone = 'UTC' SET datestyle = 'ISO'" if times else ""
    name, rules = ("flat", "< 2") if flat else ("hierarchical", "= 2")
    operator, number = rules.split()
    # SECURITY DEFINER: the application's account needs no right of its own on the journal. Setting a search path
    # for each call would cost a tenth of it all, so instead everything that one could lead astray is qualified.
    # What is asked first is what hal9cap.admit asks, in one expression that runs no query, with the lock before the
    # number; whatever is not the usual case goes there.
    return f"""
CREATE OR REPLACE FUNCTION {captured.function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER{zone} AS $capture$
DECLARE
    usual pg_catalog.bool := COALESCE(pg_catalog.current_setting('hal9.apply', true), '') OPERATOR(pg_catalog.=) ''
        AND COALESCE(pg_catalog.current_setting('hal9.rehearse', true), '') OPERATOR(pg_catalog.=) ''
        AND pg_catalog.pg_advisory_xact_lock_shared(pg_catalog.hashtextextended('hal9cap writers', 0)) IS NOT NULL;
    state pg_catalog.int8;
    epoch pg_catalog.text;
BEGIN
    IF usual THEN
        state := pg_catalog.pg_sequence_last_value('hal9cap.state');
        epoch := COALESCE(pg_catalog.current_setting('hal9.epoch', true), '');
        usual := (state OPERATOR(pg_catalog.%) 4) OPERATOR(pg_catalog.{operator}) {number} AND (
            epoch OPERATOR(pg_catalog.=) ''
            OR epoch OPERATOR(pg_catalog.=) (state OPERATOR(pg_catalog./) 4)::pg_catalog.text);
    END IF;
    IF NOT usual AND NOT hal9cap.admit('{name}') THEN
        RETURN NULL;
    END IF;
    IF TG_LEVEL OPERATOR(pg_catalog.=) 'ROW' THEN
        {each} (SELECT OLD.*) AS old_row;
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN
        {journal} old_rows;
    ELSIF TG_NARGS OPERATOR(pg_catalog.>) 0 THEN
        -- Both: an update may change the key.
        {once} (TABLE old_rows UNION ALL TABLE new_rows) AS both_rows;
    ELSIF TG_OP OPERATOR(pg_catalog.<>) 'TRUNCATE' THEN
        {journal} new_rows;
    ELSE
        RAISE EXCEPTION 'TRUNCATE of % cannot be captured', TG_TABLE_NAME
              USING HINT = 'Use DELETE, or leave dual-write first.';
    END IF;
    RETURN NULL;
END
$capture$"""


def findings(connection: Connection, category: Category, side: model.StoreName) -> list[str]:
    """Return each way in which writes to a category's tables on one side may go unseen, as a sentence; none is good."""
    found: list[str] = []
    with connection, connection.cursor() as cursor:
        for table, (function, body) in _definitions(category, side).items():
            now = members(cursor, table)
            if not now:
                found.append(f"{table} is not there")
                continue
            found += _of_family(cursor, category, table, now)
            for member in now:
                found += _of_triggers(cursor, member, function, alone=len(now) == 1)
            found += _of_function(cursor, function, body)
            found += _of_subscriptions(cursor, now)
        found += _of_function(cursor, "hal9cap.admit", _ADMIT)
    return found


def _of_family(cursor: Cursor, category: Category, table: str, now: Sequence[Member]) -> Iterator[str]:
    cursor.execute(
        "SELECT relation, relation::regclass::text FROM hal9cap.captured WHERE category = %s AND declared = %s",
        (category.slug, table),
    )
    known = {int(oid): str(name) for oid, name in cursor.fetchall()}
    here = {member.oid for member in now}
    for member in now:
        if member.oid not in known:
            yield f"{member.name} has come to {table}, or in the place of a table of it, since capture was installed"
    for oid, name in known.items():
        if oid not in here:
            yield f"a table of {table} ({name}) has been dropped, detached or replaced since capture was installed"


def _of_triggers(cursor: Cursor, member: Member, function: str, *, alone: bool) -> Iterator[str]:
    if member.foreign:
        yield f"{member.name} lies on another server, where writes are not captured"
        return
    cursor.execute(
        "SELECT tgname, tgenabled, tgfoid = to_regproc(%s)::oid AND (tgnargs > 0) = (tgname = ANY(%s)), "
        "cardinality(tgattr::int2[]) > 0 FROM pg_trigger WHERE tgrelid = %s AND tgname = ANY(%s)",
        (function, [] if alone else ["hal9cap_update"], member.oid, list(_expected(alone))),
    )
    found = cursor.fetchall()
    there = {name: (enabled, ours) for name, enabled, ours, _ in found}
    if any(narrow for *_, narrow in found) and (changing := _changing(cursor, member)):
        yield f"the trigger {changing[0]} on {member.name} may change a key that the statement does not name"
    for name in _expected(alone):
        enabled, ours = there.get(name, ("", False))
        if not enabled:
            yield f"the trigger {name} is missing on {member.name}"
        elif not ours:
            yield f"the trigger {name} on {member.name} calls something else"
        elif enabled != "A":
            yield f"the trigger {name} on {member.name} is {_FIRES.get(enabled, 'not always fired')}"


def _of_function(cursor: Cursor, function: str, body: str) -> Iterator[str]:
    cursor.execute("SELECT prosrc FROM pg_proc WHERE oid = to_regproc(%s)", (function,))
    row = cursor.fetchone()
    if row is None or row[0] != body:
        yield f"the function {function} is {'missing' if row is None else 'not the one that was installed'}"


def _of_subscriptions(cursor: Cursor, now: Sequence[Member]) -> Iterator[str]:
    # Apply workers fire triggers of rows only, and capture's are of statements.
    cursor.execute(
        "SELECT s.subname, r.srrelid FROM pg_subscription_rel r JOIN pg_subscription s ON s.oid = r.srsubid "
        "WHERE s.subenabled AND r.srrelid = ANY(%s::oid[])",
        ([member.oid for member in now],),
    )
    names = {member.oid: member.name for member in now}
    for subscription, oid in cursor.fetchall():
        yield f"the subscription {subscription} writes to {names[oid]}, which capture does not see"
