"""What a store's condition is, as an application would feel it: a small write, a small read, who waits, what lags."""

from __future__ import annotations

import dataclasses
import random
import time

from hal9mig import errors
from hal9mig.stores.connection import Connection, Cursor

#: Milliseconds that any part of it may take.
_PATIENCE = 2000
#: Sessions of this program are told by their name.
_OURS = "hal9-migrate %"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
    """What was found.

    Attributes:
        write: seconds until the log with a small write was on the disk.
        read: seconds to read one place of a table.
        active, waiting: other programs' sessions that are at work, and of these those that wait for a lock.
        replica: seconds that the slowest replica is behind; 0 without one, or where the account may not see it.
        answer: whether the user's own query says to stop; False without one.
    """

    write: float
    read: float
    active: int
    waiting: int
    replica: float
    answer: bool


def probe(connection: Connection, *, table: str | None, query: str | None) -> Probe:
    """Look at a store once; it leaves nothing there but an empty message in the log.

    Args:
        table: where to read; None is the server's own catalog.
        query: the user's own; anything but false, 0 and nothing says to stop.

    Raises:
        errors.InvalidSettings: the user's query gives no answer that can be read.
        psycopg2.Error: the store did not answer in time.
    """
    with connection, connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {_PATIENCE}; SET LOCAL lock_timeout = {_PATIENCE}")
        cursor.execute("SELECT greatest(relpages, 1) FROM pg_class WHERE oid = to_regclass(%s)", (table or "pg_class",))
        pages = int((cursor.fetchone() or (1,))[0])
        started = time.monotonic()
        # Another place each time, so that it is the table that is read and not what the last look left in memory.
        cursor.execute(f"SELECT FROM {table or 'pg_class'} WHERE ctid = '({random.randrange(pages)},1)'::tid")
        read = time.monotonic() - started
        cursor.execute(
            "SELECT count(*), count(*) FILTER (WHERE wait_event_type = 'Lock') FROM pg_stat_activity "
            "WHERE state = 'active' AND backend_type = 'client backend' AND application_name NOT LIKE %s",
            (_OURS,),
        )
        active, waiting = cursor.fetchone() or (0, 0)
        cursor.execute("SELECT coalesce(extract(epoch FROM max(replay_lag)), 0) FROM pg_stat_replication")
        replica = float((cursor.fetchone() or (0,))[0])
    answer = False
    if query is not None:
        with connection, connection.cursor() as cursor:
            cursor.execute(f"SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = {_PATIENCE}")
            answer = _answer(cursor, query)
    with connection.cursor() as cursor:
        # A message in the log, not a row: it needs no table and leaves none to clean, and its commit waits for the
        # disk as one of the application's does.
        cursor.execute(f"SET LOCAL statement_timeout = {_PATIENCE}; SELECT pg_logical_emit_message(true, 'hal9', '')")
    started = time.monotonic()
    connection.commit()
    return Probe(
        write=time.monotonic() - started, read=read, active=active, waiting=waiting, replica=replica, answer=answer
    )


def _answer(cursor: Cursor, query: str) -> bool:
    cursor.execute(query)
    row = cursor.fetchone() if cursor.description else None
    if row is None or len(row) != 1:
        raise errors.InvalidSettings("The query of impact-query does not give one value.")
    return row[0] not in (None, False, 0)
