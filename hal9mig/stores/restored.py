"""Which restores have been through a store, as the store itself says in the transaction of the swap.

Nothing else can be trusted on this: that a store has no shadow tables is also so before they are made and
after they were cleared, and what is noted in the other store commits at another moment.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import psycopg2

from hal9mig.stores.connection import Connection

#: Seconds without a word from whoever replaces tables, after which the server undoes it and lets others in.
SILENCE = 16.0


def note(connection: Connection, mark: str) -> None:
    """Note in the open transaction that it puts a restore's tables in place."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO hal9cap.restored (mark) VALUES (%s)", (mark,))


def has(connection: Connection, mark: str) -> bool:
    """Whether a restore has been through this store."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM hal9cap.restored WHERE mark = %s", (mark,))
        return cursor.rowcount > 0


def forget(connection: Connection) -> None:
    """Forget in the open transaction about every restore, before the next one begins."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM hal9cap.restored")


@contextlib.contextmanager
def spoken_for(connection: Connection) -> Iterator[None]:
    """Have the server undo the open transaction when this process is silent: stopped, it would hold up everybody.

    It may have nothing to do in one store for as long as it is busy in the other.
    """
    over = threading.Event()

    def speak() -> None:
        while not over.wait(SILENCE / 8) and not connection.closed:
            with contextlib.suppress(psycopg2.Error), connection.cursor() as cursor:
                cursor.execute("SELECT 1")

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('idle_in_transaction_session_timeout', %s, true)", (f"{round(SILENCE * 1000)}ms",)
        )
    speaking = threading.Thread(target=speak, name="swap", daemon=True)
    speaking.start()
    try:
        yield
    finally:
        # Before the transaction ends: a word after that would begin another.
        over.set()
        speaking.join()
