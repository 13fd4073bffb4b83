"""Which restores have been through a store, as the store itself says in the transaction of the swap.

Nothing else can be trusted on this: that a store has no shadow tables is also so before they are made and
after they were cleared, and what is noted in the other store commits at another moment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from hal9mig.stores.connection import Connection, speaking
from hal9mig.stores.lock_holders import Holder

#: Seconds without a word from whoever replaces tables, after which the server undoes it and lets others in.
SILENCE = 16.0
#: The same for whoever fills shadow tables, which keeps nobody but its successor waiting.
FROZEN = 60.0


def note(connection: Connection, mark: str) -> None:
    """Note in the open transaction that it puts a restore's tables in place."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO hal9cap.restored (mark) VALUES (%s); UPDATE hal9cap.restores SET count = count + 1", (mark,)
        )


def count(connection: Connection) -> int:
    """Return how many restores this store has been through, as the open transaction sees it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count FROM hal9cap.restores")
        (found,) = cursor.fetchone() or (0,)
    return int(found)


def has(connection: Connection, mark: str) -> bool:
    """Whether a restore has been through this store."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM hal9cap.restored WHERE mark = %s", (mark,))
        return cursor.rowcount > 0


def forget(connection: Connection) -> None:
    """Forget in the open transaction about every restore, before the next one begins."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM hal9cap.restored")


def of_older_snapshots(connection: Connection, since: str) -> list[Holder]:
    """Return the sessions that read as of a moment before this one, as far as the account may see them.

    A table that was filled after it and is put in place now would be empty for them: they would find neither
    the old rows nor the new ones.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid, application_name, state, xact_start, "
            "round(extract(epoch FROM clock_timestamp() - xact_start))::int FROM pg_stat_activity "
            "WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid() "
            "AND backend_xmin IS NOT NULL AND xact_start < %s ORDER BY xact_start",
            (since,),
        )
        return [Holder(*row) for row in cursor.fetchall()]


def end_stragglers(connection: Connection) -> None:
    """End the sessions of ours that still use shadow tables which are about to be removed.

    Such a one loads for a restore that is over, and may be frozen: the server would wait for it as long as for
    whoever is busy.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND usename = current_user AND application_name LIKE 'hal9-migrate %' AND pid IN "
            "(SELECT l.pid FROM pg_locks l JOIN pg_class c ON c.oid = l.relation "
            "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname LIKE 'hal9\\_shadow%' AND l.granted "
            "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
        )


def bound(connection: Connection) -> None:
    """Have the server undo the open transaction soon when this process falls silent, or its machine is lost."""
    with connection.cursor() as cursor:
        # It would notice a lost machine that was sending rows after hours only.
        cursor.execute(
            f"SET LOCAL idle_in_transaction_session_timeout = '{round(FROZEN * 1000)}ms'; "
            "SET LOCAL tcp_keepalives_idle = 10; SET LOCAL tcp_keepalives_interval = 5; "
            "SET LOCAL tcp_keepalives_count = 3"
        )


@contextlib.contextmanager
def spoken_for(connection: Connection) -> Iterator[None]:
    """Have the server undo the open transaction when this process is silent: stopped, it would hold up everybody.

    It may have nothing to do in one store for as long as it is busy in the other.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('idle_in_transaction_session_timeout', %s, true)", (f"{round(SILENCE * 1000)}ms",)
        )
    with speaking(connection, every=SILENCE / 8):
        yield
