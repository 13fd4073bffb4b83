"""A store's connections, shared by the threads of a process."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import psycopg2
import psycopg2.extensions

from hal9mig import errors
from hal9mig.client import values
from hal9mig.stores import connection as stores_connection
from hal9mig.stores.connection import Connection

_IDLE = psycopg2.extensions.TRANSACTION_STATUS_IDLE


class Pool:
    """Gives each caller a connection of its own, in autocommit.

    Args:
        name: what the store is called in errors.
        idle: connections that are kept open when nobody uses them; there is one for each caller at a time.
    """

    def __init__(self, name: str, url: str, *, application_name: str, connect_timeout: float, idle: int):
        self.name = name
        self._url = url
        self._application_name = application_name
        self._connect_timeout = connect_timeout
        self._most = idle
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._pid = os.getpid()

    @contextlib.contextmanager
    def taken(self) -> Iterator[Connection]:
        """Take a connection for the length of a block; one that the block leaves in doubt is closed.

        Raises:
            errors.Unreachable: the store cannot be reached, or went away; what was open is undone.
            psycopg2.Error: the server refused something; what was open is undone.
        """
        connection = self._take()
        try:
            yield connection
        except psycopg2.Error as error:
            if not connection.closed and _rolled_back(connection):
                raise
            # The idle ones are most likely dead as well.
            self.clear()
            reason = " ".join(str(error).split())
            raise errors.StoreUnreachable(f"The connection to the {self.name} store was lost: {reason}") from error
        finally:
            self._put(connection)

    def clear(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> Connection:
        with self._lock:
            if self._pid != os.getpid():
                # The sockets are the parent's; the driver leaves them alone when these objects go.
                self._idle, self._pid = [], os.getpid()
            if self._idle:
                return self._idle.pop()
        connection = stores_connection.connect(
            self._url, application_name=self._application_name, connect_timeout=self._connect_timeout
        )
        connection.autocommit = True
        values.prepare(connection)
        return connection

    def _put(self, connection: Connection) -> None:
        if connection.closed or not _rolled_back(connection):
            connection.close()
            return
        with self._lock:
            if len(self._idle) < self._most:
                self._idle.append(connection)
                return
        connection.close()


def _rolled_back(connection: Connection) -> bool:
    """End a transaction that was left open, and return whether that went well."""
    if connection.info.transaction_status == _IDLE:
        return True
    try:
        with connection.cursor() as cursor:
            cursor.execute("ROLLBACK")
    except psycopg2.Error:
        return False
    return bool(connection.info.transaction_status == _IDLE)
