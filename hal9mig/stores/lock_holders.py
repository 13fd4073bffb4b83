"""Who holds a lock that somebody waits for, so that a refusal can name the session that is to be ended."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any

from hal9mig.stores.connection import Connection, Cursor

# Advisory locks and tables have their numbers for one database only.
_HERE = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
_SESSION = (
    "SELECT a.pid, a.application_name AS name, a.state, a.xact_start AS since, "
    "round(extract(epoch FROM clock_timestamp() - a.xact_start))::int AS age"
)
_ON_TABLES = (
    f"{_SESSION} FROM pg_stat_activity a WHERE a.pid <> pg_backend_pid() AND a.pid IN "
    f"(SELECT pid FROM pg_locks WHERE relation = ANY(%s::regclass[]) AND granted AND {_HERE}"
)


@dataclasses.dataclass(frozen=True)
class Holder:
    """A session, and its transaction; of another account's only the process is told."""

    pid: int
    name: str | None
    state: str | None
    since: datetime.datetime | None
    age: int | None

    def __str__(self) -> str:
        known = [self.name or "unnamed", self.state or "of another account"]
        return f"pid {self.pid} ({', '.join([*known, *([] if self.age is None else [f'open for {self.age} s'])])})"


def of_advisory(connection: Connection, key: str) -> list[Holder]:
    """Return the other sessions that hold an advisory lock, the oldest transaction first.

    Args:
        key: an SQL expression that gives the lock's number.
    """
    return _read(
        connection,
        f"{_SESSION} FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
        "WHERE l.locktype = 'advisory' AND l.granted AND a.pid <> pg_backend_pid() AND l.objsubid = 1 "
        f"AND l.{_HERE} "
        f"AND (l.classid::bigint << 32 | l.objid::bigint) = {key} ORDER BY since",
    )


def of_writing(connection: Connection, tables: Sequence[str]) -> list[Holder]:
    """Return the other sessions whose transactions have written one of the tables, or keep it to themselves."""
    return _read(
        connection,
        f"{_ON_TABLES} AND mode NOT IN ('AccessShareLock', 'RowShareLock')) ORDER BY since",
        list(tables),
    )


def of_tables(cursor: Cursor, tables: Sequence[str]) -> list[Holder]:
    """Return the other sessions that hold a lock on one of the tables, their readers too, in the open transaction."""
    cursor.execute(f"{_ON_TABLES}) ORDER BY since", (list(tables),))
    return [Holder(*row) for row in cursor.fetchall()]


def ahead_of(connection: Connection, application_name: str) -> list[Holder]:
    """Return the sessions that those of a name wait for and that wait for nobody themselves."""
    # Whoever is waited for may wait as well, for one who is the cause of it all.
    return _read(
        connection,
        "WITH RECURSIVE chain (pid) AS (SELECT pid FROM pg_stat_activity WHERE application_name = %s UNION "
        "SELECT unnest(pg_blocking_pids(pid)) FROM chain) "
        f"{_SESSION} FROM chain JOIN pg_stat_activity a USING (pid) "
        "WHERE a.application_name <> %s AND pg_blocking_pids(a.pid) = '{}' ORDER BY since",
        application_name,
        application_name,
    )


def standing(connection: Connection, seen: Sequence[Holder]) -> list[Holder]:
    """Return which of these sessions are still in the transaction in which they were seen."""
    now = _read(
        connection, f"{_SESSION} FROM pg_stat_activity a WHERE a.pid = ANY(%s)", [holder.pid for holder in seen]
    )
    before = {(holder.pid, holder.since) for holder in seen}
    return [holder for holder in now if (holder.pid, holder.since) in before]


def _read(connection: Connection, sql: str, *values: Any) -> list[Holder]:
    with connection, connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return [Holder(*row) for row in cursor.fetchall()]
