"""The barrier: the moment of a switch in which every captured writer is held back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg2
import psycopg2.errors

from hal9mig import errors
from hal9mig.stores import lock_holders
from hal9mig.stores.connection import Connection, require_own, speaking

#: Seconds without a word from whoever keeps the writers out, after which they are let in.
SILENCE = 16.0
_WRITERS = "hashtextextended('hal9cap writers', 0)"


@contextlib.contextmanager
def hold_back(connection: Connection, *, patience: float) -> Iterator[None]:
    """Keep every captured writer out for the length of a block, after those in flight have ended.

    While it waits, new writers wait behind it; so it gives up after ``patience`` seconds, and lets them go on.

    Raises:
        errors.WritersInFlight: a transaction that has written is still open; its pid is named.
        errors.PoolerBetween: the lock would be another session's with the next transaction.
    """
    with connection.cursor() as cursor:
        require_own(cursor)
        cursor.execute("SELECT set_config('lock_timeout', %s, false)", (f"{int(patience * 1000)}ms",))
        connection.commit()
        try:
            cursor.execute(f"SELECT pg_advisory_lock({_WRITERS})")
            connection.commit()
        except psycopg2.errors.LockNotAvailable:
            connection.rollback()
            raise errors.WritersInFlight(_writers(connection)) from None
        try:
            with _spoken_for(connection):
                yield
        finally:
            # Where the session is gone its lock is gone too, and what has failed because of that is raised.
            if not connection.closed:
                connection.rollback()
                cursor.execute(f"SELECT pg_advisory_unlock({_WRITERS}), set_config('lock_timeout', '0', false)")
                connection.commit()


@contextlib.contextmanager
def _spoken_for(connection: Connection) -> Iterator[None]:
    """Have the server end the session when this process is silent: stopped, it would keep writers out for ever.

    What it does next on this connection then fails, so that it cannot go on as if it had kept them out.
    """
    timeouts = ("idle_session_timeout", "idle_in_transaction_session_timeout")
    with connection, connection.cursor() as cursor:
        for name in timeouts:
            cursor.execute("SELECT set_config(%s, %s, false)", (name, f"{round(SILENCE * 1000)}ms"))
    try:
        with speaking(connection, every=SILENCE / 8):
            yield
    finally:
        if not connection.closed:
            connection.rollback()
            with connection, connection.cursor() as cursor:
                for name in timeouts:
                    cursor.execute(f"RESET {name}")


def _writers(connection: Connection) -> str:
    held = "; ".join(map(str, lock_holders.of_advisory(connection, _WRITERS)))
    return f"A transaction that has written is still open: {held or 'it has ended just now; try again'}."
