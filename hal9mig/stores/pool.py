"""Connections to one database, shared by the threads of a process."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Iterator

import psycopg2
import psycopg2.extensions

from hal9mig.stores import connection as stores_connection
from hal9mig.stores.connection import Connection

_IDLE = psycopg2.extensions.TRANSACTION_STATUS_IDLE


class Pool:
    """Gives each caller a connection of its own.

    Nobody ever waits for one: whoever holds a connection, with a lock on it, and waits for another may wait for one
    who waits for that lock. How many there are is bounded by what a process does at once.

    Args:
        name: what the database is called in errors; None is its address.
        idle: connections that are kept open when nobody uses them.
        patience: seconds that a statement waits for a lock; None is as long as it takes.
        trust: seconds for which a connection that was used last is taken to be alive, as long as its server says
            nothing. A session that is ended says so only moments later, and what comes in between fails.
        autocommit: whether each statement commits by itself.
        own: whether a connection has to be one session of the server's; see ``connection.connect``.
        prepare: what is done to a new connection.
    """

    def __init__(
        self, url: str, *, application_name: str, connect_timeout: float, idle: int, name: str | None = None,
        patience: float | None = None, trust: float = 0.0, autocommit: bool = False, own: bool = False,
        prepare: Callable[[Connection], None] | None = None,
    ):  # fmt: skip
        self.name = name
        self._url = url
        self._application_name = application_name
        self._connect_timeout = connect_timeout
        self._patience = patience
        self._trust = trust
        self._autocommit = autocommit
        self._own = own
        self._prepare = prepare
        self._most = idle
        self._idle: list[tuple[Connection, float]] = []
        self._lock = threading.Lock()
        self._pid = os.getpid()

    @contextlib.contextmanager
    def taken(self) -> Iterator[Connection]:
        """Take a connection for the length of a block; what the block leaves open is undone.

        Raises:
            errors.Unreachable: the database cannot be reached, or went away.
            psycopg2.Error: the server refused something.
        """
        connection = self._take()
        try:
            yield connection
        except psycopg2.Error as error:
            if not connection.closed and _rolled_back(connection):
                raise
            # The idle ones are most likely dead as well.
            self.clear()
            raise stores_connection.lost(connection, error, name=self.name) from error
        finally:
            self._put(connection)

    def clear(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
            inherited = self._pid != os.getpid()
        if not inherited:
            for connection, _ in idle:
                connection.close()

    def _take(self) -> Connection:
        while (found := self._kept()) is not None:
            if _alive(*found, trust=self._trust):
                return found[0]
            found[0].close()
        connection = stores_connection.connect(
            self._url, application_name=self._application_name, connect_timeout=self._connect_timeout,
            patience=self._patience, own=self._own,
        )  # fmt: skip
        connection.autocommit = self._autocommit
        if self._prepare is not None:
            self._prepare(connection)
        return connection

    def _kept(self) -> tuple[Connection, float] | None:
        with self._lock:
            if self._pid != os.getpid():
                # The sockets are the parent's; the driver leaves them alone when these objects go.
                self._idle, self._pid = [], os.getpid()
            return self._idle.pop() if self._idle else None

    def _put(self, connection: Connection) -> None:
        if connection.closed or not _rolled_back(connection):
            connection.close()
            return
        with self._lock:
            if len(self._idle) < self._most:
                self._idle.append((connection, time.monotonic()))
                return
        connection.close()


def _alive(connection: Connection, used: float, *, trust: float) -> bool:
    """Whether a connection that nobody used for a while still has its server.

    A server that ends a session says so: there is something to read. One that is cut off says nothing, and is asked.
    """
    try:
        # Not select(), which knows the first 1,024 files of a process only.
        said = select.poll()
        said.register(connection.fileno(), select.POLLIN)
        if said.poll(0):
            return False
        if time.monotonic() - used >= trust:
            # One word, and no transaction around it.
            before = connection.autocommit
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            connection.autocommit = before
    except (psycopg2.Error, OSError, ValueError):
        return False
    return True


def _rolled_back(connection: Connection) -> bool:
    """End a transaction that was left open, and return whether that went well."""
    if connection.info.transaction_status == _IDLE:
        return True
    try:
        connection.rollback()
        if connection.info.transaction_status != _IDLE:
            # One that was begun by a statement, in autocommit: the driver does not know of it.
            with connection.cursor() as cursor:
                cursor.execute("ROLLBACK")
    except psycopg2.Error:
        return False
    return bool(connection.info.transaction_status == _IDLE)
